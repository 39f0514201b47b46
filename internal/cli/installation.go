package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/up"
)

// defaultData is where `slipway up` keeps everything unless told otherwise.
const defaultData = "slipway-data"

// choice says which installation is meant. The config file has its form.
type choice struct {
	URL       string `yaml:"url"`
	Token     string `yaml:"token"`
	TokenFile string `yaml:"tokenFile"`
	CA        string `yaml:"ca"`
	Data      string `yaml:"-"`

	source string    // what said the URL, for doctor
	local  *up.Ready // the installation on this machine, when that one is meant
}

// over fills what c leaves open from lower. A token belongs to what named it:
// one given higher up hides a token file given lower down.
func (c choice) over(lower choice) choice {
	if c.Token == "" && c.TokenFile == "" {
		c.Token, c.TokenFile = lower.Token, lower.TokenFile
	}
	if c.URL == "" {
		c.source = lower.source
	}
	c.URL, c.CA = cmp.Or(c.URL, lower.URL), cmp.Or(c.CA, lower.CA)
	return c
}

// choose finds out which installation is meant.
func (a *app) choose() (choice, error) {
	flags := a.flags
	flags.source = "--url"
	c := flags.over(choice{URL: a.env("SLIPWAY_URL"), Token: a.env("SLIPWAY_TOKEN"), CA: a.env("SLIPWAY_CA"), source: "SLIPWAY_URL"})
	// A data directory named on the command line means that installation, not
	// the one the config file prefers.
	if c.URL == "" && a.flags.Data != "" {
		return a.chooseLocal(c)
	}
	file, err := a.configFile()
	if err != nil {
		return c, err
	}
	if c = c.over(file); c.URL != "" {
		return c, nil
	}
	return a.chooseLocal(c)
}

// configDir is where a person's settings are, and what is remembered for them.
func (a *app) configDir() string {
	return filepath.Join(cmp.Or(a.env("XDG_CONFIG_HOME"), filepath.Join(a.env("HOME"), ".config")), "slipway")
}

// configFile reads ~/.config/slipway/config.yaml if it is there.
func (a *app) configFile() (c choice, err error) {
	name := filepath.Join(a.configDir(), "config.yaml")
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) && a.env("HOME") == "" {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := yaml.UnmarshalWithOptions(text, &c, yaml.Strict()); err != nil {
		return c, problem.New(problem.Invalid, "%s: %s", name, yaml.FormatError(err, false, false))
	}
	c.source = name
	return c, nil
}

func (a *app) dataDir() string {
	return cmp.Or(a.flags.Data, a.env("SLIPWAY_DATA"), defaultData)
}

// chooseLocal takes the installation that `slipway up` runs on this machine,
// as its ready file tells.
func (a *app) chooseLocal(c choice) (choice, error) {
	name := filepath.Join(a.dataDir(), "ready.json")
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return c, withHint(problem.New(problem.NotReady, "no installation is named, and none runs on the data directory %s", a.dataDir()),
			"start one with `slipway up`, or name one with SLIPWAY_URL, SLIPWAY_TOKEN and SLIPWAY_CA")
	}
	if err != nil {
		return c, err
	}
	var ready up.Ready
	if err := json.Unmarshal(text, &ready); err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	c = c.over(choice{URL: ready.API, Token: ready.AdminToken, CA: ready.CA, source: name})
	c.local = &ready
	return c, nil
}

// token returns the token itself.
func (c choice) token() (string, error) {
	if c.Token != "" || c.TokenFile == "" {
		return c.Token, nil
	}
	text, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// client returns a client of the installation that is meant.
func (a *app) client() (*client.Client, error) {
	c, err := a.choose()
	if err != nil {
		return nil, err
	}
	return c.client()
}

func (c choice) client() (*client.Client, error) {
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	return client.New(client.Options{URL: c.URL, Token: token, CAFile: c.CA})
}

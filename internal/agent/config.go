package agent

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/device/update"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Config is an agent's configuration file.
type Config struct {
	Provisioning   string       `json:"provisioning"`
	IDScope        string       `json:"idScope"`
	RegistrationID string       `json:"registrationId"`
	KeyFile        string       `json:"keyFile,omitempty"` // the device's key in base64
	Certificate    *Certificate `json:"certificate,omitempty"`
	CAFile         string       `json:"caFile,omitempty"`
	Port           int          `json:"port,omitempty"`
	HTTPSPort      int          `json:"httpsPort,omitempty"`

	Directory    string              `json:"directory"`
	Hardware     string              `json:"hardware,omitempty"`
	RootFile     string              `json:"rootFile"`
	Environments []string            `json:"environments,omitempty"`
	Software     map[string]Software `json:"software"`

	Windows []string `json:"windows,omitempty"`
	Zone    string   `json:"zone,omitempty"`
	Veto    *Veto    `json:"veto,omitempty"`
	Trial   Trial    `json:"trial,omitempty"`
	Retry   Retry    `json:"retry,omitempty"`

	DesiredFile string   `json:"desiredFile,omitempty"` // where the application finds desired properties
	Reboot      []string `json:"reboot,omitempty"`      // default systemctl reboot
	Wipe        []string `json:"wipe,omitempty"`        // run when the device is decommissioned, before its credentials go
}

// Certificate is an X.509 certificate with its key, both PEM.
type Certificate struct {
	CertFile string `json:"certFile"`
	KeyFile  string `json:"keyFile"`
}

// Software is one kind of software of the device.
type Software struct {
	Handler   string   `json:"handler"` // files, script, rauc, swupdate, container, agent
	Version   string   `json:"version,omitempty"`
	Directory string   `json:"directory,omitempty"` // of files and agent
	Unpack    bool     `json:"unpack,omitempty"`    // of files
	Docker    string   `json:"docker,omitempty"`    // of container; default docker
	Restart   string   `json:"restart,omitempty"`   // of script: service, agent or device
	Run       []string `json:"run,omitempty"`       // a command the agent keeps running, relative to the directory's current
	Unit      string   `json:"unit,omitempty"`      // or a systemd unit
	Commands  Commands `json:"commands,omitempty"`  // of swupdate and container, where they differ
}

// Commands are those of a handler that calls a tool.
type Commands struct {
	Prepare  []string `json:"prepare,omitempty"`
	Install  []string `json:"install,omitempty"`
	Runs     []string `json:"runs,omitempty"`
	Commit   []string `json:"commit,omitempty"`
	Rollback []string `json:"rollback,omitempty"`
}

// Veto is a file that holds installations off.
type Veto struct {
	File   string `json:"file"`
	AtMost string `json:"atMost,omitempty"`
}

// Trial is what new software has to pass.
type Trial struct {
	SelfTest []string `json:"selfTest,omitempty"`
	Settle   string   `json:"settle,omitempty"`
	Deadline string   `json:"deadline,omitempty"`
	Starts   int      `json:"starts,omitempty"`
}

// Retry bounds how the agent tries again.
type Retry struct {
	Base    string `json:"base,omitempty"`    // the first wait is drawn from up to this
	Cap     string `json:"cap,omitempty"`     // and none is longer
	Dormant string `json:"dormant,omitempty"` // the quiet after a campaign in vain
}

const maxConfig = 1 << 20

// Load reads a configuration file. What it does not know it refuses, with the
// line: a misspelt restriction must not be taken for none.
func Load(file string) (Config, error) {
	info, err := os.Stat(file)
	if err != nil {
		return Config{}, err
	}
	if info.Size() > maxConfig {
		return Config{}, problem.New(problem.TooLarge, "%s: a configuration has at most %d bytes, not %d", file, maxConfig, info.Size())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return Config{}, err
	}
	return resource.DecodeOne(file, text, Config.check)
}

func wrong(field, format string, args ...any) error {
	return problem.New(problem.Invalid, format, args...).At(field)
}

// check looks at everything that can be judged without the device.
func (c Config) check() (Config, error) {
	for field, value := range map[string]string{"provisioning": c.Provisioning, "idScope": c.IDScope, "registrationId": c.RegistrationID, "directory": c.Directory, "rootFile": c.RootFile} {
		if value == "" {
			return c, wrong(field, "is missing")
		}
	}
	if (c.KeyFile == "") == (c.Certificate == nil) {
		return c, wrong("keyFile", "the device proves who it is by a keyFile or a certificate, by one of them")
	}
	if len(c.Software) == 0 {
		return c, wrong("software", "names no software to update")
	}
	for name, s := range c.Software {
		if err := s.check("software." + name); err != nil {
			return c, err
		}
	}
	for i, text := range c.Windows {
		if _, err := update.ParseWindow(text); err != nil {
			return c, wrong(fmt.Sprintf("windows[%d]", i), "%s", err)
		}
	}
	if _, err := time.LoadLocation(c.Zone); err != nil {
		return c, wrong("zone", "%q is no time zone that this system knows", c.Zone)
	}
	durations := map[string]string{"trial.settle": c.Trial.Settle, "trial.deadline": c.Trial.Deadline, "retry.base": c.Retry.Base, "retry.cap": c.Retry.Cap, "retry.dormant": c.Retry.Dormant}
	if c.Veto != nil {
		if durations["veto.atMost"] = c.Veto.AtMost; c.Veto.File == "" {
			return c, wrong("veto.file", "is missing")
		}
	}
	for field, text := range durations {
		if d, err := time.ParseDuration(text); text != "" && (err != nil || d <= 0) {
			return c, wrong(field, "must be a duration above zero, such as 90s or 5m, not %q", text)
		}
	}
	return c, nil
}

func (s Software) check(field string) error {
	switch s.Handler {
	case "files", "agent":
		if !filepath.IsAbs(s.Directory) {
			return wrong(field+".directory", "must be the absolute path of a directory")
		}
	case "script", "rauc", "swupdate", "container":
	default:
		return wrong(field+".handler", "must be files, script, rauc, swupdate, container or agent, not %q", s.Handler)
	}
	if len(s.Run) > 0 && s.Unit != "" {
		return wrong(field+".unit", "software is run by a command or as a systemd unit, not both")
	}
	if len(s.Run) > 0 && s.Handler != "files" {
		return wrong(field+".run", "the agent runs only what the handler files installs; use unit")
	}
	if _, known := restarts[s.Restart]; !known {
		return wrong(field+".restart", "must be service, agent or device, not %q", s.Restart)
	}
	return nil
}

var restarts = map[string]update.Restart{"": update.RestartService, "service": update.RestartService, "agent": update.RestartAgent, "device": update.RestartDevice}

// duration is what a checked text means; 0 where there is none.
func duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0
	}
	return d
}

func (c Config) policy() retry.Policy {
	return retry.Policy{Base: duration(c.Retry.Base), Cap: duration(c.Retry.Cap), Dormant: duration(c.Retry.Dormant)}.Complete()
}

// own is the software that is the agent itself; empty: it does not update itself.
func (c Config) own() (name string, directory string) {
	for name, s := range c.Software {
		if s.Handler == "agent" {
			return name, s.Directory
		}
	}
	return "", ""
}

// device is the client's part of the configuration.
func (c Config) device() (device.Config, error) {
	d := device.Config{
		Provisioning: c.Provisioning, IDScope: c.IDScope, RegistrationID: c.RegistrationID, Port: c.Port, HTTPSPort: c.HTTPSPort,
		Store: device.FileStore(filepath.Join(c.Directory, "connection.json")), Policy: c.policy(),
	}
	if c.KeyFile != "" {
		text, err := os.ReadFile(c.KeyFile)
		if err != nil {
			return d, fmt.Errorf("the device's key: %w", err)
		}
		if d.Key, err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(text))); err != nil {
			return d, fmt.Errorf("the device's key: %s is not base64", c.KeyFile)
		}
	} else {
		pair, err := tls.LoadX509KeyPair(c.Certificate.CertFile, c.Certificate.KeyFile)
		if err != nil {
			return d, fmt.Errorf("the device's certificate: %w", err)
		}
		d.Certificate = &pair
	}
	if c.CAFile != "" {
		text, err := os.ReadFile(c.CAFile)
		if err != nil {
			return d, fmt.Errorf("the certificates to trust: %w", err)
		}
		if d.CA = x509.NewCertPool(); !d.CA.AppendCertsFromPEM(text) {
			return d, fmt.Errorf("the certificates to trust: %s holds none in PEM", c.CAFile)
		}
	}
	return d, nil
}

// updates is the updater's part of the configuration.
func (c Config) updates(services map[string]update.Service) (update.Config, error) {
	root, err := os.ReadFile(c.RootFile)
	if err != nil {
		return update.Config{}, fmt.Errorf("the trusted root: %w", err)
	}
	u := update.Config{
		Directory: filepath.Join(c.Directory, "updates"), Root: root, Hardware: c.Hardware, Environments: c.Environments, Components: map[string]update.Component{},
		Settle: duration(c.Trial.Settle), Deadline: duration(c.Trial.Deadline), Starts: c.Trial.Starts, Policy: c.policy(),
	}
	for name, s := range c.Software {
		u.Components[name] = update.Component{Version: s.Version, Handler: s.handler(u), Service: services[name]}
	}
	for _, text := range c.Windows {
		w, err := update.ParseWindow(text)
		if err != nil {
			return u, err
		}
		u.Windows = append(u.Windows, w)
	}
	if u.Zone, err = time.LoadLocation(cmp.Or(c.Zone, "Local")); err != nil {
		return u, err
	}
	if c.Veto != nil {
		u.Veto, u.VetoFor = c.Veto.File, duration(c.Veto.AtMost)
	}
	if len(c.Trial.SelfTest) > 0 {
		u.SelfTest = selfTest(c.Trial.SelfTest)
	}
	return u, nil
}

func (s Software) handler(u update.Config) update.Handler {
	switch s.Handler {
	case "files":
		return &update.Files{Path: s.Directory, Unpack: s.Unpack}
	case "agent":
		return newSelf(s.Directory, u.Deadline)
	case "script":
		return &update.Script{Starts: restarts[s.Restart]}
	case "rauc":
		return &update.RAUC{}
	case "container":
		return s.Commands.of(update.Container(cmp.Or(s.Docker, "docker")))
	}
	return s.Commands.of(update.SWUpdate())
}

// of puts these commands in the place of a tool's own.
func (c Commands) of(t *update.Tool) *update.Tool {
	for own, other := range map[*[]string][]string{&t.PrepareBy: c.Prepare, &t.InstallBy: c.Install, &t.RunsBy: c.Runs, &t.CommitBy: c.Commit, &t.RollbackBy: c.Rollback} {
		if len(other) > 0 {
			*own = other
		}
	}
	return t
}

package cli

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/serve"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/trail"
)

func (a *app) serve() *cobra.Command {
	return a.group("serve", "Run one plane in a process of its own", `Run one plane in a process of its own, by a configuration file. Control comes
first; provisioning and each stamp join it once, with a token that control makes.

  slipway config example control > control.yaml
  slipway serve control --config control.yaml
  slipway stamp token test-1
  slipway serve stamp --config test-1.yaml`, a.servePlane(serve.Control), a.servePlane(serve.Provisioning), a.servePlane(serve.Stamp))
}

func (a *app) servePlane(plane string) *cobra.Command {
	var file, readyFile string
	cmd := &cobra.Command{
		Use: plane, Short: "Run " + plane, Args: cobra.NoArgs,
		Example: "  slipway serve " + plane + " --config /etc/slipway/" + plane + ".yaml",
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			config, err := serve.ReadConfig(file)
			if err != nil {
				return err
			}
			if config.Plane != plane {
				return usage("%s is for %s, not for %s", file, config.Plane, plane)
			}
			t, err := trail.Open(cmd.Context(), trail.Options{Output: a.output(config.Log), Collector: config.Trail.Collector, Share: *config.Trail.Share, Plane: plane, Version: versionText()})
			if err != nil {
				return err
			}
			defer a.lastWords(cmd.Context(), t)
			return a.runServe(cmd.Context(), serve.Options{Config: config, JoinToken: a.env("SLIPWAY_JOIN_TOKEN"), ReadyFile: readyFile, Version: versionText(), Trail: t, Logger: t.Logger()})
		}),
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	cmd.Flags().StringVar(&readyFile, "ready-file", "", "write addresses there as JSON when ready")
	if err := cmd.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag is two lines up
	}
	return cmd
}

// output writes lines to standard error as a configuration says.
func (a *app) output(l serve.Log) slog.Handler {
	level := slog.LevelInfo
	if l.Level != "" && level.UnmarshalText([]byte(l.Level)) != nil {
		level = slog.LevelInfo // the configuration was checked
	}
	options := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.NewJSONHandler(a.err, options)
	}
	return slog.NewTextHandler(a.err, options)
}

// runServe runs a plane; a banner that cannot be written ends nothing.
func (a *app) runServe(ctx context.Context, o serve.Options) error {
	o.Ready = func(r serve.Ready) {
		if err := a.print("%s", served(r)); err != nil {
			o.Logger.Warn("the banner was not written", "error", err)
		}
	}
	err := serve.Run(ctx, o)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return withHint(err, "another program listens there; listen and link in the configuration name other ports, and 0 any free one")
	case err == nil:
		o.Logger.Info("stopped")
	}
	return err
}

// served says where a process is.
func served(r serve.Ready) string {
	name := r.Plane
	if r.Name != "" {
		name += " " + r.Name
	}
	lines := []string{"Slipway serves " + name + "."}
	for _, line := range []struct{ what, is string }{
		{"Console", r.Console}, {"API", r.API}, {"Link", r.Link}, {"Id scope", r.IDScope}, {"CA to trust", r.CA}, {"Data", r.DataDir},
	} {
		if line.is != "" {
			lines = append(lines, "  "+line.what+strings.Repeat(" ", 14-len(line.what))+line.is)
		}
	}
	if r.MQTTS != 0 {
		lines = append(lines, "  Devices       "+address(r.Host, r.MQTTS)+" (MQTT), "+address(r.Host, r.HTTPS)+" (HTTPS)")
	}
	if r.TokenFile != "" {
		lines = append(lines, "  First token   in "+r.TokenFile)
	}
	return strings.Join(lines, "\n") + "\n"
}

func (a *app) config() *cobra.Command {
	return a.group("config", "Check and explain the configuration files of slipway serve", "", a.configCheck(), a.configExample())
}

func (a *app) configCheck() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "check FILE", Short: "Check a file, and show it with what it leaves open filled in", Args: cobra.ExactArgs(1),
		Example: "  slipway config check control.yaml",
		RunE: a.run(func(_ *cobra.Command, args []string) error {
			config, err := serve.ReadConfig(args[0])
			if err != nil {
				return err
			}
			if config.Join.Token != "" {
				config.Join.Token = "(kept to itself)"
			}
			config.Database = sqldb.Shown(config.Database)
			if a.asJSON {
				return a.json(config)
			}
			text, err := yamlOf(config)
			if err != nil {
				return err
			}
			return a.print("%s", text)
		}),
	})
}

func (a *app) configExample() *cobra.Command {
	return &cobra.Command{
		Use: "example control|provisioning|stamp", Short: "Print a commented example", Args: cobra.ExactArgs(1), ValidArgs: []string{serve.Control, serve.Provisioning, serve.Stamp},
		RunE: a.run(func(_ *cobra.Command, args []string) error {
			text, known := serve.Example(args[0])
			if !known {
				return usage("there is no plane %q; there are control, provisioning and stamp", args[0])
			}
			return a.print("%s", text)
		}),
	}
}

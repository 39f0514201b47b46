package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"

	"github.com/slipway/slipway/device/update"
)

// release is set by the build; a plain `go build` says what it knows itself.
var release = ""

func version() string {
	if info, ok := debug.ReadBuildInfo(); release == "" && ok {
		return info.Main.Version
	}
	return cmp.Or(release, "unknown")
}

// The statuses with which the program ends.
const (
	statusFailed  = 1
	statusUsage   = 2
	restartStatus = 75 // the agent is to be started anew, as it is installed now
)

const usage = `slipway-agent keeps a Linux device connected and has it follow orders to run
other software: checked against signed metadata, installed beside what runs,
started on trial, and kept or taken back.

Usage:
  slipway-agent run     --config FILE [--verbose]   until it is told to end
  slipway-agent status  --config FILE [--json]      what runs, and where an update stands
  slipway-agent check   --config FILE               whether the configuration is right
  slipway-agent version

Examples:
  slipway-agent check --config /etc/slipway-agent.yaml
  slipway-agent run --config /etc/slipway-agent.yaml
  slipway-agent status --config /etc/slipway-agent.yaml --json

It ends with 0 when it was told to, 1 when something failed, 2 when it was
called wrongly or its configuration is wrong, and 75 when it is to be started
anew for an update of its own (systemd does that).
`

// Main runs a command and returns the status with which the program ends.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	status, err := command(ctx, args, stdout, stderr)
	if err != nil {
		if _, printed := fmt.Fprintln(stderr, "slipway-agent:", err); printed != nil {
			return statusFailed
		}
	}
	return status
}

func command(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	if len(args) == 0 {
		return statusUsage, errors.New("say what to do: run, status, check or version; --help tells more")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("config", "/etc/slipway-agent.yaml", "")
	verbose, asJSON := flags.Bool("verbose", false, ""), flags.Bool("json", false, "")
	err := flags.Parse(args[1:])
	if errors.Is(err, flag.ErrHelp) || slices.Contains([]string{"help", "--help", "-h"}, args[0]) {
		_, err = io.WriteString(stdout, usage)
		return outcome(err), err
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("%q is too much", flags.Arg(0))
	}
	if err != nil {
		return statusUsage, fmt.Errorf("%w; --help tells more", err)
	}
	if args[0] == "version" {
		_, err = fmt.Fprintln(stdout, "slipway-agent", version())
		return outcome(err), err
	}
	do := map[string]func(Config) (int, error){
		"run":    func(c Config) (int, error) { return run(ctx, c, *file, *verbose, stderr) },
		"work":   func(c Config) (int, error) { return worked(work(ctx, c, logger(stderr, *verbose), stderr)) },
		"status": func(c Config) (int, error) { err := status(c, *asJSON, stdout); return outcome(err), err },
		"check":  func(Config) (int, error) { _, err := fmt.Fprintln(stdout, *file, "is right"); return outcome(err), err },
	}[args[0]]
	if do == nil {
		return statusUsage, fmt.Errorf("there is no command %q; --help tells which there are", args[0])
	}
	c, err := Load(*file)
	if err != nil {
		return statusUsage, err
	}
	return do(c)
}

func outcome(err error) int {
	if err != nil {
		return statusFailed
	}
	return 0
}

func logger(to io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: level}))
}

// run works itself, or launches the agent that does where that is replaced by
// its own updates.
func run(ctx context.Context, c Config, file string, verbose bool, stderr io.Writer) (int, error) {
	_, directory := c.own()
	if directory == "" {
		return worked(work(ctx, c, logger(stderr, verbose), stderr))
	}
	arguments := []string{"work", "--config", file}
	if verbose {
		arguments = append(arguments, "--verbose")
	}
	err := (&launcher{directory, arguments, logger(stderr, verbose)}).run(ctx)
	return outcome(err), err
}

// worked is the status after work has ended.
func worked(err error) (int, error) {
	var restart *update.ErrRestart
	if errors.As(err, &restart) {
		return restartStatus, nil
	}
	if errors.Is(err, errWiped) {
		return 0, err // there is nothing to do any more, and nobody is to start it again
	}
	return outcome(err), err
}

// status prints where things stand.
func status(c Config, asJSON bool, to io.Writer) error {
	s, err := c.journal()
	if err != nil {
		return err
	}
	if asJSON {
		encoder := json.NewEncoder(to)
		encoder.SetIndent("", "  ")
		return encoder.Encode(s)
	}
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(c.Software)) {
		running := cmp.Or(s.Running[name].Version, c.Software[name].Version, "none")
		text = fmt.Appendf(text, "%s runs %s\n", name, running)
	}
	switch {
	case s.Phase != update.Idle:
		text = fmt.Appendf(text, "order %d to release %s: %s\n", s.Order.Order, s.Order.Release, s.Phase)
	case s.Outcome.Phase != "":
		text = fmt.Appendf(text, "order %d: %s %s\n", s.Outcome.Order, s.Outcome.Phase, s.Outcome.Error)
	}
	if waiting := len(s.Outbox); waiting > 0 {
		text = fmt.Appendf(text, "%d reports wait for the hub\n", waiting)
	}
	_, err = to.Write(text)
	return err
}

package cli

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/journal"
)

func (a *app) logs() *cobra.Command {
	var f journal.Filter
	var since time.Duration
	var from, to string
	var follow bool
	cmd := a.read(&cobra.Command{
		Use: "logs", Short: "Search what the processes of the installation say of what they do", Args: cobra.NoArgs,
		Long: "Search the lines that all processes log: control's, provisioning's, each stamp's. The\n" +
			"oldest of those that are shown comes first. With --follow they go on as they come.",
		Example: "  slipway logs --level warn --since 1h\n  slipway logs --device sensor-0001 --follow\n  slipway logs --trace 4bf92f3577b34da6a3ce929d0e0e4736\n  slipway logs --text 'cannot be written' --stamp test-1 --json",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) (err error) {
			if f.From, err = moment("from", from); err != nil {
				return err
			}
			if f.To, err = moment("to", to); err != nil {
				return err
			}
			if since > 0 {
				f.From = a.now().Add(-since)
			}
			if follow {
				return c.FollowLogs(ctx, f, a.showLine)
			}
			found, next, err := c.Logs(ctx, f)
			if err != nil {
				return err
			}
			slices.Reverse(found)
			if a.asJSON {
				return jsonList(a, found, next)
			}
			for _, e := range found {
				if err := a.showLine(e); err != nil {
					return err
				}
			}
			return nil
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&f.Text, "text", "", "only lines that say this, in whatever case")
	flags.StringVar(&f.Level, "level", "", "only lines at least as grave: info, warn or error")
	flags.StringVar(&f.Device, "device", "", "only about this device")
	flags.StringVar(&f.Release, "release", "", "only about this release")
	flags.StringVar(&f.Trace, "trace", "", "only of this trace: Trace-Id of an answer")
	flags.StringVar(&f.Plane, "plane", "", "only from control, provisioning or stamp")
	flags.StringVar(&f.Stamp, "stamp", "", "only from this stamp")
	flags.StringVar(&f.Environment, "environment", "", "only from stamps of this environment")
	flags.StringVar(&f.Tenant, "tenant", "", "only about devices of this tenant")
	flags.DurationVar(&since, "since", 0, "only of so long until now, such as 2h")
	flags.StringVar(&from, "from", "", "not before this time, such as 2026-11-28T09:00:00Z")
	flags.StringVar(&to, "to", "", "before this time")
	flags.Int64Var(&f.Before, "before", 0, "only lines older than this one")
	flags.IntVar(&f.Limit, "limit", 100, "at most so many, up to 1000")
	flags.BoolVarP(&follow, "follow", "f", false, "go on with new lines until interrupted")
	a.complete(cmd, "environment", environments)
	return cmd
}

// showLine writes a line as people read it, or as JSON.
func (a *app) showLine(e journal.Entry) error {
	if a.asJSON {
		return a.json(e)
	}
	words := []string{e.At.UTC().Format("2006-01-02T15:04:05.000Z"), strings.ToUpper(e.Level), e.Message}
	for _, one := range [][2]string{
		{"plane", e.Plane}, {"stamp", e.Stamp}, {"environment", e.Environment}, {"process", e.Process}, {"tenant", e.Tenant},
		{"device", e.Device}, {"release", e.Release}, {"trace", e.Trace},
	} {
		if one[1] != "" && !(one[0] == "plane" && e.Stamp != "") {
			words = append(words, one[0]+"="+spaced(one[1]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.More)) {
		words = append(words, name+"="+spaced(e.More[name]))
	}
	return a.print("%s\n", clean(strings.Join(words, " ")))
}

// spaced quotes a value that has spaces.
func spaced(value string) string {
	if strings.ContainsAny(value, ` "=`) {
		return strconv.Quote(value)
	}
	return value
}

func (a *app) trace() *cobra.Command {
	var limit int
	cmd := a.read(&cobra.Command{
		Use: "trace [ID]", Short: "Show what was done in a trace, across planes; or list the newest", Args: cobra.MaximumNArgs(1),
		Long: "Show what was done in a trace, across planes, each piece of work below the one it is a\n" +
			"part of. Answers of the API name their trace in Trace-Id. Without an id, list the newest.",
		Example: "  slipway trace\n  slipway trace 4bf92f3577b34da6a3ce929d0e0e4736",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if len(args) == 0 {
				return a.listTraces(ctx, c, limit)
			}
			steps, err := c.Trace(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, steps, "")
			}
			rows := make([][]string, len(steps))
			for i, s := range steps {
				rows[i] = []string{strings.Repeat("· ", s.Depth) + s.Name, s.Plane, s.Stamp, took(s.Micros), s.Problem}
			}
			return a.table([]string{"WORK", "PLANE", "STAMP", "TOOK", "PROBLEM"}, rows)
		}),
	})
	cmd.Flags().IntVar(&limit, "limit", 20, "at most so many, without an id")
	return cmd
}

func (a *app) listTraces(ctx context.Context, c *client.Client, limit int) error {
	all, err := c.Traces(ctx, limit)
	if err != nil {
		return err
	}
	if a.asJSON {
		return jsonList(a, all, "")
	}
	rows := make([][]string, len(all))
	for i, s := range all {
		rows[i] = []string{s.Trace, a.when(&s.Began), s.Name, took(s.Micros), s.Problem}
	}
	return a.table([]string{"TRACE", "BEGAN", "WHAT", "TOOK", "PROBLEM"}, rows)
}

func took(micros int64) string { return (time.Duration(micros) * time.Microsecond).String() }

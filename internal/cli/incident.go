package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/incident"
)

func (a *app) incident() *cobra.Command {
	group := a.group("incident", "See what goes wrong, say what is known, and resolve it",
		"An alert that somebody is to look at now opens an incident by itself; people open others.",
		a.incidentList(), a.incidentShow(), a.incidentOpen(), a.incidentNote(), a.incidentOwn(),
		a.incidentSet("mitigate", incident.Mitigated, "Say that it hurts no more"),
		a.incidentSet("reopen", incident.Open, "Say that it hurts again"),
		a.incidentSet("resolve", incident.Resolved, "Say what it was and what was done, and end it for good"))
	group.Aliases = []string{"incidents"}
	return group
}

func (a *app) incidentList() *cobra.Command {
	var f incident.Filter
	var all bool
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List incidents that are not resolved, the newest first", Args: cobra.NoArgs,
		Example: "  slipway incident list\n  slipway incident list --all --environment production",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			if !all {
				f.State = "unresolved"
			}
			found, err := c.Incidents(ctx, f)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, found, "")
			}
			rows := make([][]string, len(found))
			for i, one := range found {
				rows[i] = []string{one.ID, string(one.State), one.Severity, one.Environment, one.Stamp, a.when(&one.BeganAt), one.Owner, one.Title}
			}
			return a.table([]string{"INCIDENT", "STATE", "SEVERITY", "ENVIRONMENT", "STAMP", "BEGAN", "OWNER", "TITLE"}, rows)
		}),
	})
	cmd.Flags().BoolVar(&all, "all", false, "those that are resolved, too")
	cmd.Flags().StringVar(&f.Environment, "environment", "", "only those of this environment")
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) incidentShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show ID", Short: "Show an incident, what was said, and what changed in the two hours before", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			d, err := c.Incident(ctx, args[0])
			if err != nil {
				return err
			}
			before, err := c.Timeline(ctx, incident.Window{From: d.BeganAt.Add(-incident.DefaultLook), To: d.BeganAt, Environment: d.Environment})
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(struct {
					incident.Dossier
					Before client.Timeline `json:"before"`
				}{d, before})
			}
			return a.showIncident(d, before)
		}),
	})
}

func (a *app) showIncident(d incident.Dossier, before client.Timeline) error {
	for _, row := range [][2]string{
		{"incident", d.ID}, {"title", d.Title}, {"state", string(d.State)}, {"severity", d.Severity}, {"environment", d.Environment}, {"stamp", d.Stamp}, {"owner", d.Owner},
		{"began", d.BeganAt.Format(time.RFC3339)}, {"opened by", d.OpenedBy}, {"resolution", d.Resolution},
	} {
		if row[1] != "" {
			if err := a.print("%s\t%s\n", row[0], clean(row[1])); err != nil {
				return err
			}
		}
	}
	rows := [][]string{}
	for _, n := range d.Notes {
		rows = append(rows, []string{n.At.Format(time.RFC3339), n.Actor, n.Kind, n.Text})
	}
	if len(rows) > 0 {
		if err := a.print("\n"); err != nil {
			return err
		}
		if err := a.table([]string{"AT", "WHO", "WHAT", "TEXT"}, rows); err != nil {
			return err
		}
	}
	if err := a.print("\nWhat changed in the two hours before: %s\n", counted(before.Counts)); err != nil {
		return err
	}
	return a.showMoments(before)
}

// counted says how many moments there are of each kind.
func counted(counts map[string]int) string {
	var all []string
	for _, kind := range incident.Kinds {
		if n := counts[kind]; n > 0 {
			all = append(all, fmt.Sprintf("%s %d", kind, n))
		}
	}
	if len(all) == 0 {
		return "nothing"
	}
	return strings.Join(all, ", ")
}

func (a *app) showMoments(t client.Timeline) error {
	if t.Missing != "" {
		a.note("not all could be had: %s\n", clean(t.Missing))
	}
	rows := make([][]string, len(t.Items))
	for i, m := range t.Items {
		rows[i] = []string{m.At.UTC().Format(time.RFC3339), m.Kind, m.Environment, m.Stamp, m.What, m.Object, m.Actor}
	}
	return a.table([]string{"AT", "KIND", "ENVIRONMENT", "STAMP", "WHAT", "OBJECT", "WHO"}, rows)
}

func (a *app) incidentOpen() *cobra.Command {
	var i incident.Incident
	var text, began string
	cmd := a.read(&cobra.Command{
		Use: "open TITLE", Short: "Open an incident", Args: cobra.ExactArgs(1),
		Example: "  slipway incident open 'Customers see no data' --environment production --owner ann --text 'since the deployment at nine'",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) (err error) {
			i.Title = args[0]
			if i.BeganAt, err = moment("began", began); err != nil {
				return err
			}
			opened, err := c.OpenIncident(ctx, i, text)
			return a.incidentDone(opened, err)
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&i.Environment, "environment", "", "where; default the installation")
	flags.StringVar(&i.Stamp, "stamp", "", "where more exactly")
	flags.StringVar(&i.Severity, "severity", "", "page, ticket or info (default page)")
	flags.StringVar(&i.Owner, "owner", "", "who looks after it")
	flags.StringVar(&began, "began", "", "when it began, such as 2026-11-28T09:00:00Z (default now)")
	flags.StringVar(&text, "text", "", "what is known")
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) incidentDone(i incident.Incident, err error) error {
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.json(i)
	}
	return a.print("incident %s is %s\n", i.ID, i.State)
}

func (a *app) incidentNote() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "note ID TEXT", Short: "Say something about an incident", Args: cobra.ExactArgs(2),
		Example: "  slipway incident note i-abcde12345 'the route is rebuilt'",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			i, err := c.NoteIncident(ctx, args[0], args[1])
			return a.incidentDone(i, err)
		}),
	})
}

func (a *app) incidentOwn() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "own ID OWNER", Short: "Give an incident to somebody", Args: cobra.ExactArgs(2),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			i, err := c.OwnIncident(ctx, args[0], args[1])
			return a.incidentDone(i, err)
		}),
	})
}

func (a *app) incidentSet(verb string, s incident.State, short string) *cobra.Command {
	return a.read(&cobra.Command{
		Use: verb + " ID [TEXT]", Short: short, Args: cobra.RangeArgs(1, 2),
		Example: "  slipway incident " + verb + " i-abcde12345 'the disk of stamp eu-1 was full; it has a larger one now'",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			i, err := c.SetIncident(ctx, args[0], s, strings.Join(args[1:], ""))
			return a.incidentDone(i, err)
		}),
	})
}

func (a *app) timeline() *cobra.Command {
	var w incident.Window
	var since time.Duration
	var from, to string
	cmd := a.read(&cobra.Command{
		Use: "timeline", Short: "Show what changed: releases, configuration, flags, access, alerts, devices", Args: cobra.NoArgs,
		Long:    "Show what changed, newest first: releases, configuration, flags, access, alerts, incidents,\nand what happened to devices. Without times, in the last two hours.",
		Example: "  slipway timeline --environment production\n  slipway timeline --since 24h --kind release,flag\n  slipway timeline --device sensor-0001 --from 2026-11-28T09:00:00Z --to 2026-11-28T10:00:00Z",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) (err error) {
			if w.From, err = moment("from", from); err != nil {
				return err
			}
			if w.To, err = moment("to", to); err != nil {
				return err
			}
			if since > 0 {
				w.From = a.now().Add(-since)
			}
			t, err := c.Timeline(ctx, w)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(t)
			}
			return a.showMoments(t)
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&w.Environment, "environment", "", "what is of this environment, or of none")
	flags.StringVar(&w.Device, "device", "", "what happened to this device, too")
	flags.StringSliceVar(&w.Kinds, "kind", nil, "only of these kinds: "+strings.Join(incident.Kinds, ", "))
	flags.DurationVar(&since, "since", 0, "of so long until now (default 2h)")
	flags.StringVar(&from, "from", "", "not before this time, such as 2026-11-28T09:00:00Z")
	flags.StringVar(&to, "to", "", "before this time")
	a.complete(cmd, "environment", environments)
	return cmd
}

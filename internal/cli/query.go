package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

func (a *app) query() *cobra.Command {
	var o client.QueryOptions
	var saved bool
	cmd := a.read(&cobra.Command{
		Use: "query QUERY", Short: "Ask all stamps about their devices; one JSON object a line", Args: cobra.ExactArgs(1),
		Long: "Ask all stamps about their devices; one JSON object a line, led by its stamp.\n\n" +
			"Queries read as existing back ends write them: SELECT with properties, COUNT, AVG,\n" +
			"MIN, MAX or SUM, FROM devices or devices.modules, WHERE, GROUP BY. Figures are each\n" +
			"stamp's own.",
		Example: "  slipway query \"SELECT deviceId, tags.site FROM devices WHERE properties.reported.firmware = '1.2'\"\n" +
			"  slipway query --environment production \"SELECT COUNT() AS n, tags.site FROM devices GROUP BY tags.site\"\n" +
			"  slipway query save stale \"SELECT * FROM devices WHERE lastActivityTime < '2026-11-01T00:00:00Z'\"\n" +
			"  slipway query --saved stale",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			text := args[0]
			if saved {
				var err error
				if text, err = savedQuery(ctx, c, text); err != nil {
					return err
				}
			}
			answers, err := c.Query(ctx, text, o)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, answers, "")
			}
			return a.printAnswers(answers)
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&o.Environment, "environment", "", "only its stamps")
	flags.StringVar(&o.Stamp, "stamp", "", "only this stamp")
	flags.StringVar(&o.After, "after", "", "with --stamp: the next page, as the one before says")
	flags.IntVar(&o.Limit, "limit", 0, "rows of each stamp, up to 1000; default 100")
	flags.BoolVar(&saved, "saved", false, "QUERY is the name of a saved one")
	a.complete(cmd, "stamp", stamps)
	cmd.AddCommand(a.queryList(), a.querySave(), a.queryForget())
	return cmd
}

func savedQuery(ctx context.Context, c *client.Client, name string) (string, error) {
	all, err := c.SavedQueries(ctx)
	if err != nil {
		return "", err
	}
	for _, q := range all {
		if q.Name == name {
			return q.Query, nil
		}
	}
	return "", problem.New(problem.NotFound, "there is no saved query %q", name)
}

func (a *app) printAnswers(answers []fleet.Answer) error {
	for _, answer := range answers {
		for _, row := range answer.Items {
			line, err := json.Marshal(struct {
				Stamp string          `json:"stamp"`
				Row   json.RawMessage `json:"row"`
			}{answer.Stamp, row})
			if err != nil {
				return err
			}
			if err := a.print("%s\n", line); err != nil {
				return err
			}
		}
		note := answer.Problem
		if answer.Next != "" {
			note = fmt.Sprintf("there is more: --stamp %s --after %s", answer.Stamp, strconv.Quote(answer.Next))
		}
		if note != "" {
			if _, err := fmt.Fprintf(a.err, "%s: %s\n", answer.Stamp, note); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *app) queryList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List the saved queries", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.SavedQueries(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, q := range all {
				rows[i] = []string{q.Name, q.Query, q.SavedBy, a.when(&q.UpdatedAt)}
			}
			return a.table([]string{"NAME", "QUERY", "BY", "SAVED"}, rows)
		}),
	})
}

func (a *app) querySave() *cobra.Command {
	return &cobra.Command{
		Use: "save NAME QUERY", Short: "Keep a query under a name, for everybody", Args: cobra.ExactArgs(2),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.SaveQuery(ctx, args[0], args[1]); err != nil {
				return err
			}
			return a.print("query %s saved\n", args[0])
		}),
	}
}

func (a *app) queryForget() *cobra.Command {
	return &cobra.Command{
		Use: "forget NAME", Short: "Delete a saved query", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.ForgetQuery(ctx, args[0]); err != nil {
				return err
			}
			return a.print("query %s forgotten\n", args[0])
		}),
	}
}

// job is `slipway job`.
func (a *app) job() *cobra.Command {
	list := a.read(&cobra.Command{
		Use: "list", Short: "List the jobs of back ends, newest first", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Jobs(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, j := range all {
				rows[i] = []string{j.ID, j.Stamp, j.Type, j.Status, strconv.FormatInt(j.Succeeded, 10), strconv.FormatInt(j.Failed, 10), strconv.FormatInt(j.Total, 10), a.when(&j.CreatedAt), j.By}
			}
			return a.table([]string{"JOB", "STAMP", "TYPE", "STATUS", "SUCCEEDED", "FAILED", "DEVICES", "CREATED", "BY"}, rows)
		}),
	})
	var yes bool
	cancel := &cobra.Command{
		Use: "cancel STAMP JOB", Short: "End a job; devices whose turn has not come are left alone", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeNames(resource.KindStamp),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := a.confirm(yes, "Cancel the job %s", args[1]); err != nil {
				return err
			}
			j, err := c.CancelJob(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			return a.print("job %s is %s\n", j.ID, j.Status)
		}),
	}
	yesFlag(cancel, &yes)
	group := a.group("job", "See and cancel what back ends do to many devices", "", list, cancel)
	group.Aliases = []string{"jobs"}
	return group
}

// configuration is `slipway configuration`.
func (a *app) configuration() *cobra.Command {
	list := a.read(&cobra.Command{
		Use: "list", Short: "List what stamps have, of back ends too, with how far each is applied", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Configurations(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, one := range all {
				rows[i] = []string{one.ID, one.Stamp, strconv.FormatInt(one.Priority, 10), one.Target, strconv.FormatInt(one.Targeted, 10), strconv.FormatInt(one.Applied, 10)}
			}
			return a.table([]string{"CONFIGURATION", "STAMP", "PRIORITY", "TARGET", "TARGETED", "APPLIED"}, rows)
		}),
	})
	group := a.group("configuration", "What devices are configured with beside releases: schema, versions, promotion, the way back", `  slipway configuration define pace --schema pace.schema.json --reason "how often devices report"
  slipway configuration write pace -f pace.json --reason "twice as often"
  slipway configuration promote pace --to test --reason "try it"
  slipway configuration rollback pace --environment production --reason "batteries"`,
		list, a.configurationShow(), a.configurationDefine(), a.configurationWrite(), a.configurationDiff(), a.configurationPromote(), a.configurationRollback(), a.configurationApprove(), a.configurationWithdraw(), a.configurationHistory(), a.configurationDeclared())
	group.Aliases = []string{"configurations"}
	return group
}

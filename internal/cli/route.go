package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

func (a *app) route() *cobra.Command {
	group := a.nounCommands(noun{
		kind: resource.KindRoute, use: "route", words: "route", secrets: true, gone: "its dead letters go with it",
		header: []string{"NAME", "ENVIRONMENT", "SOURCE", "TO", "STATE", "DELIVERED", "DEAD", "LOST", "LAG", "LAST ERROR"},
		row:    routeRow,
	})
	group.Example = "  slipway apply -f alerts.yaml\n  slipway route try alerts --body '{\"temperature\": 41}'\n  slipway route dead-letters list alerts --stamp test-1"
	group.AddCommand(a.routeTry(), a.deadLetters())
	return group
}

func routeRow(_ *app, s client.Stored) ([]string, error) {
	spec, status, err := parts[link.RouteSpec, resource.RouteStatus](s)
	sum := status.Sum()
	n := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return []string{
		s.Metadata.Name, spec.Environment, spec.Source, spec.Endpoint.String(), sum.State,
		n(sum.Delivered), n(sum.DeadLetters), n(sum.Lost), n(sum.Lag), sum.Error,
	}, err
}

func (a *app) routeTry() *cobra.Command {
	var m link.LogRecord
	var text string
	cmd := a.read(&cobra.Command{
		Use: "try NAME", Short: "Show what a route would make of a message; nothing is sent", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames(resource.KindRoute),
		Long: "Show what a route would make of a message; nothing is sent. Exits 3 if the route does not take it.",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if m.Body, m.BodyBase64 = nil, nil; json.Valid([]byte(text)) && utf8.ValidString(text) {
				m.Body = json.RawMessage(text)
			} else {
				m.BodyBase64 = []byte(text)
			}
			trial, err := c.TryRoute(ctx, args[0], m)
			switch {
			case err != nil:
				return err
			case a.asJSON:
				err = a.json(trial)
			case trial.Taken:
				err = a.json(trial.Message)
			default:
				err = a.print("the route does not take it\n")
			}
			if err == nil && !trial.Taken {
				return answer(exitNo)
			}
			return err
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&text, "body", "{}", "body of the message")
	flags.StringVar(&m.DeviceID, "device", "a-device", "its sender, whose twin conditions see")
	flags.StringToStringVar(&m.Properties, "property", nil, "application property NAME=VALUE; may be repeated")
	flags.StringVar(&m.Kind, "kind", "", "kind of an event, such as connected")
	return cmd
}

func (a *app) deadLetters() *cobra.Command {
	group := a.group("dead-letters", "See, replay and purge what a route could not deliver", `  slipway route dead-letters list alerts --stamp test-1
  slipway route dead-letters replay alerts --stamp test-1`, a.deadLetterList(), a.deadLetterReplay(), a.deadLetterPurge())
	group.Aliases = []string{"dead"}
	return group
}

// stampFlag gives a command the stamp it is about.
func (a *app) stampFlag(cmd *cobra.Command, stamp *string) {
	cmd.Flags().StringVar(stamp, "stamp", "", "the stamp it is about")
	a.complete(cmd, "stamp", stamps)
	if err := cmd.MarkFlagRequired("stamp"); err != nil {
		panic(err) // the flag is defined two lines above
	}
}

func (a *app) deadLetterList() *cobra.Command {
	var stamp, after string
	var limit int
	cmd := a.read(&cobra.Command{
		Use: "list ROUTE", Short: "List dead letters, oldest first", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames(resource.KindRoute),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			page, err := c.DeadLetters(ctx, args[0], stamp, after, limit)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, page.Items, page.Next)
			}
			rows := make([][]string, len(page.Items))
			for i, l := range page.Items {
				rows[i] = []string{strconv.FormatInt(l.ID, 10), a.when(&l.At), strconv.Itoa(l.Attempts), l.Reason, string(l.Message)}
			}
			return a.table([]string{"ID", "GIVEN UP", "ATTEMPTS", "REASON", "MESSAGE"}, rows)
		}),
	})
	a.stampFlag(cmd, &stamp)
	cmd.Flags().StringVar(&after, "after", "", "only those with a greater id")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many, up to 1000")
	return cmd
}

func (a *app) deadLetterReplay() *cobra.Command {
	var stamp string
	cmd := a.read(&cobra.Command{
		Use: "replay ROUTE [ID…]", Short: "Offer dead letters to the endpoint once more: those named, or all", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeNames(resource.KindRoute),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			return a.useLetters(args, "to be sent once more", func(ids []int64) (link.Purged, error) { return c.ReplayDeadLetters(ctx, args[0], stamp, ids) })
		}),
	})
	a.stampFlag(cmd, &stamp)
	return cmd
}

func (a *app) deadLetterPurge() *cobra.Command {
	var stamp string
	var yes bool
	cmd := a.read(&cobra.Command{
		Use: "purge ROUTE [ID…]", Short: "Drop dead letters: those named, or all", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeNames(resource.KindRoute),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := a.confirm(yes, "Drop dead letters of route %s on %s for good", args[0], stamp); err != nil {
				return err
			}
			return a.useLetters(args, "dropped", func(ids []int64) (link.Purged, error) { return c.PurgeDeadLetters(ctx, args[0], stamp, ids) })
		}),
	})
	a.stampFlag(cmd, &stamp)
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) useLetters(args []string, words string, use func(ids []int64) (link.Purged, error)) error {
	var ids []int64
	for _, text := range args[1:] {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return usage("a dead letter is named by the number in the list, not by %q", text)
		}
		ids = append(ids, id)
	}
	done, err := use(ids)
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.json(done)
	}
	return a.print("%d dead letters %s\n", done.Total, words)
}

// reader is what `slipway consume` was asked for.
type reader struct {
	stamp            string
	req              link.ReadConsumer
	partition, limit int
	fromTime         string
	fromSequence     uint64
	keep             bool
}

func (a *app) consume() *cobra.Command {
	var r reader
	cmd := a.read(&cobra.Command{
		Use: "consume --stamp STAMP --group GROUP", Short: "Read telemetry or events as one of a group of readers; as JSON one object a line", Args: cobra.NoArgs,
		Long: "Read telemetry or events as one of a group of readers, and go on with new ones until\n" +
			"interrupted. The group's position is kept on the stamp and moves on with what has been\n" +
			"printed: the next reader goes on there. --partition shares the work: a device is always\n" +
			"in the same of 4 partitions.",
		Example: "  slipway consume --stamp test-1 --group billing --from earliest --json\n" +
			"  slipway consume --stamp test-1 --group billing --from-time 2026-11-20T08:00:00Z --limit 100",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			if r.partition >= 0 {
				r.req.Partition = &r.partition
			}
			return a.readGroup(ctx, c, r)
		}),
	})
	flags := cmd.Flags()
	a.stampFlag(cmd, &r.stamp)
	flags.StringVar(&r.req.Group, "group", "", "name of the group")
	flags.StringVar(&r.req.Source, "source", "", "telemetry (default) or events")
	flags.StringVar(&r.req.From, "from", "", "where a new group begins: earliest or latest (default)")
	flags.StringVar(&r.fromTime, "from-time", "", "set the group back to this time first, such as 2026-11-20T08:00:00Z")
	flags.Uint64Var(&r.fromSequence, "from-sequence", 0, "set the group to this sequence first")
	flags.IntVar(&r.partition, "partition", -1, "read one partition, 0 to 3, instead of everything")
	flags.IntVar(&r.limit, "limit", 0, "end after so many messages; default never")
	flags.BoolVar(&r.keep, "no-ack", false, "leave the group's position where it is")
	if err := cmd.MarkFlagRequired("group"); err != nil {
		panic(err) // the flag is defined above
	}
	cmd.AddCommand(a.consumerList(), a.consumerDelete())
	return cmd
}

// readWait is how long one request waits for messages.
const readWait = 20 * time.Second

func (a *app) readGroup(ctx context.Context, c *client.Client, r reader) error {
	if err := r.seek(ctx, c); err != nil {
		return err
	}
	printer := &recordPrinter{app: a}
	r.req.Wait = readWait
	for left := r.limit; r.limit == 0 || left > 0; {
		r.req.Limit = link.MaxPage
		if r.limit > 0 {
			r.req.Limit = min(left, link.MaxPage)
		}
		page, err := c.ReadConsumer(ctx, r.stamp, r.req)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if page.Lost > 0 {
			if _, err := fmt.Fprintf(a.err, "%d records were gone before they were read\n", page.Lost); err != nil {
				return err
			}
		}
		for _, record := range page.Items {
			if err := printer.print(record); err != nil {
				return err
			}
		}
		left -= len(page.Items)
		if r.req.After = page.Position; r.keep {
			continue
		}
		if _, err := c.AckConsumer(context.WithoutCancel(ctx), r.stamp, link.AckConsumer{ConsumerRef: r.req.ConsumerRef, Position: page.Position}); err != nil {
			return err
		}
	}
	return nil
}

func (r reader) seek(ctx context.Context, c *client.Client) error {
	req := link.SeekConsumer{ConsumerRef: r.req.ConsumerRef, Sequence: r.fromSequence}
	if r.fromTime != "" {
		at, err := time.Parse(time.RFC3339, r.fromTime)
		if err != nil {
			return usage("a time reads 2026-11-20T08:00:00Z, not %q", r.fromTime)
		}
		req.Time = &at
	}
	if req.Time == nil && req.Sequence == 0 {
		return nil
	}
	if req.Time != nil && req.Sequence > 0 {
		return usage("give --from-time or --from-sequence, not both")
	}
	_, err := c.SeekConsumer(ctx, r.stamp, req)
	return err
}

func (a *app) consumerList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list STAMP", Short: "List the groups that read a stamp, with their lag", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames(resource.KindStamp),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.Consumers(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, g := range all {
				part := "all"
				if g.Partition != nil {
					part = strconv.Itoa(*g.Partition)
				}
				rows[i] = []string{g.Group, g.Source, part, strconv.FormatUint(g.Position, 10), strconv.FormatUint(g.Lag, 10), a.when(&g.UpdatedAt)}
			}
			return a.table([]string{"GROUP", "SOURCE", "PARTITION", "POSITION", "LAG", "MOVED"}, rows)
		}),
	})
}

func (a *app) consumerDelete() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete STAMP GROUP", Short: "Forget a group and its position", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeNames(resource.KindStamp),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := a.confirm(yes, "Forget the group %s", args[1]); err != nil {
				return err
			}
			if err := c.DeleteConsumer(ctx, args[0], args[1]); err != nil {
				return err
			}
			return a.print("group %s deleted\n", args[1])
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

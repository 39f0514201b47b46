package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

func (a *app) deviceMessage() *cobra.Command {
	return a.group("message", "Send messages to a device and see which ones wait", "", a.messageSend(), a.messageList(), a.messagePurge())
}

func (a *app) messageSend() *cobra.Command {
	var m client.Command
	var file string
	var life time.Duration
	cmd := a.read(&cobra.Command{
		Use: "send ID [BODY]", Short: "Queue a message for a device", Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeDevices,
		Example: "  slipway device message send sensor-0001 'open the valve' --property urgency=high",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) (err error) {
			switch {
			case (len(args) == 2) == (file != ""):
				return usage("give a body or a file with -f, one of the two")
			case file != "":
				if m.BodyBase64, err = a.readFile(file); err != nil {
					return err
				}
			default:
				m.BodyBase64 = []byte(args[1])
			}
			m.TTLSeconds = seconds(life)
			queued, err := c.SendCommand(ctx, args[0], m)
			if err != nil {
				return ofDevice(err)
			}
			if a.asJSON {
				return a.json(queued)
			}
			return a.print("message %s queued\n", queued.MessageID)
		}),
	})
	flags := cmd.Flags()
	flags.StringVarP(&file, "file", "f", "", "file with the body; - is stdin")
	flags.StringToStringVar(&m.Properties, "property", nil, "application property NAME=VALUE; may be repeated")
	flags.StringVar(&m.ContentType, "content-type", "", "such as application/json")
	flags.StringVar(&m.MessageID, "message-id", "", "made when left out")
	flags.StringVar(&m.CorrelationID, "correlation-id", "", "")
	flags.DurationVar(&life, "ttl", 0, "how long it may wait: 1m to 48h; default 1h")
	return cmd
}

func (a *app) messageList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list ID", Short: "List the messages that wait for a device", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeDevices,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			queued, err := c.Commands(ctx, args[0])
			if err != nil {
				return ofDevice(err)
			}
			if a.asJSON {
				return jsonList(a, queued, "")
			}
			rows := make([][]string, len(queued))
			for i, m := range queued {
				rows[i] = []string{m.MessageID, a.when(&m.EnqueuedAt), a.when(&m.ExpiresAt), strconv.Itoa(m.Deliveries), strconv.Itoa(m.Size)}
			}
			return a.table([]string{"MESSAGE", "QUEUED", "EXPIRES", "DELIVERIES", "BYTES"}, rows)
		}),
	})
}

func (a *app) messagePurge() *cobra.Command {
	var yes bool
	cmd := a.read(&cobra.Command{
		Use: "purge ID", Short: "Drop the messages that wait for a device", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeDevices,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := a.confirm(yes, "Drop all messages that wait for %s", args[0]); err != nil {
				return err
			}
			purged, err := c.PurgeCommands(ctx, args[0])
			if err != nil {
				return ofDevice(err)
			}
			if a.asJSON {
				return a.json(purged)
			}
			return a.print("%d messages dropped\n", purged.Total)
		}),
	})
	yesFlag(cmd, &yes)
	return cmd
}

// logReader reads one log of a device.
type logReader struct {
	device, log string
	options     client.LogOptions
	last        int
	follow      bool
}

// deviceLog makes `device messages` and `device events`.
func (a *app) deviceLog(log, words string) *cobra.Command {
	var r logReader
	cmd := a.read(&cobra.Command{
		Use: log + " ID", Short: "Print a device's " + words + ", oldest first; as JSON one object a line",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeDevices,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if r.device, r.log = args[0], log; r.last < 0 || r.options.Limit < 0 {
				return usage("--last and --limit must not be negative")
			}
			return ofDevice(a.readLog(ctx, c, r))
		}),
	})
	flags := cmd.Flags()
	flags.IntVar(&r.last, "last", 0, "only the newest so many, at most "+strconv.Itoa(link.MaxPage))
	flags.Uint64Var(&r.options.After, "after", 0, "only those with a greater sequence number")
	flags.IntVar(&r.options.Limit, "limit", 0, "at most so many; default all")
	flags.BoolVar(&r.follow, "follow", false, "go on with new ones until interrupted")
	flags.StringVar(&r.options.Stamp, "stamp", "", "from this stamp instead of the one the device is on")
	a.complete(cmd, "stamp", stamps)
	return cmd
}

// readLog prints what is stored, and then what comes if asked to follow.
func (a *app) readLog(ctx context.Context, c *client.Client, r logReader) error {
	printer := &recordPrinter{app: a}
	o := r.options
	left, all := o.Limit, o.Limit == 0
	if r.last > 0 {
		o.Last, left, all = true, min(r.last, link.MaxPage), false
	}
	for all || left > 0 {
		if o.Limit = link.MaxPage; !all {
			o.Limit = min(left, link.MaxPage)
		}
		page, err := c.Log(ctx, r.device, r.log, o)
		if err != nil {
			return err
		}
		for _, record := range page.Items {
			if err := printer.print(record); err != nil {
				return err
			}
			o.After = record.Sequence
		}
		if left -= len(page.Items); page.NextAfter == 0 || o.Last {
			break
		}
	}
	if !r.follow {
		return nil
	}
	o.Last, o.Limit = false, 0
	return follow(ctx, c, r.device, r.log, o, printer.print)
}

// follow is FollowLog that says in words that the server went away.
func follow(ctx context.Context, c *client.Client, device, log string, o client.LogOptions, each func(link.LogRecord) error) error {
	var ours error // of printing, not of the connection
	err := c.FollowLog(ctx, device, log, o, func(r link.LogRecord) error {
		ours = each(r)
		return ours
	})
	var told *problem.Error
	if err == nil || ours != nil || errors.As(err, &told) {
		return ofDevice(err)
	}
	return problem.New(problem.NotReady, "the installation ended the connection: %w", err)
}

// recordPrinter prints records of several logs without mixing their lines.
type recordPrinter struct {
	app *app
	mu  sync.Mutex
}

func (p *recordPrinter) print(r link.LogRecord) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.app.asJSON {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		return p.app.print("%s\n", line)
	}
	at := r.EnqueuedTime.UTC().Format(time.RFC3339Nano)
	if p.app.outTTY {
		at = r.EnqueuedTime.Local().Format("15:04:05.000")
	}
	fields := []string{at, r.Stamp, r.DeviceID, cmp.Or(r.Kind, "telemetry"), bodyOf(r), propertiesOf(r.Properties)}
	return p.app.print("%s\n", strings.TrimRight(strings.Join(shown(fields), p.separator()), " \t"))
}

func (p *recordPrinter) separator() string {
	if p.app.outTTY {
		return "  "
	}
	return "\t"
}

func shown(fields []string) []string {
	for i := range fields {
		fields[i] = clean(fields[i])
	}
	return fields
}

func bodyOf(r link.LogRecord) string {
	switch {
	case len(r.Body) > 0:
		return string(r.Body)
	case len(r.BodyBase64) > 0:
		return fmt.Sprintf("(%d bytes, not JSON)", len(r.BodyBase64))
	}
	return "(empty)"
}

func propertiesOf(all map[string]string) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		pairs = append(pairs, key+"="+all[key])
	}
	return strings.Join(pairs, " ")
}

func (a *app) deviceWatch() *cobra.Command {
	var stamp, environment string
	cmd := a.read(&cobra.Command{
		Use: "watch [ID]", Short: "Follow telemetry and events live, of one device or of all, until interrupted",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeDevices,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if len(args) == 1 {
				return a.watch(ctx, c, []logReader{{device: args[0], log: client.Messages}, {device: args[0], log: client.Events}})
			}
			sources, err := stampLogs(ctx, c, stamp, environment)
			if err != nil {
				return err
			}
			return a.watch(ctx, c, sources)
		}),
	})
	cmd.Flags().StringVar(&stamp, "stamp", "", "only devices of this stamp")
	cmd.Flags().StringVar(&environment, "environment", "", "only devices of this environment")
	a.complete(cmd, "stamp", stamps)
	a.complete(cmd, "environment", environments)
	return cmd
}

// stampLogs are the logs of the stamps in question, whatever the device.
func stampLogs(ctx context.Context, c *client.Client, stamp, environment string) ([]logReader, error) {
	all, err := c.Resources(ctx, resource.KindStamp, false)
	if err != nil {
		return nil, err
	}
	var sources []logReader
	for _, s := range all {
		spec, err := resource.SpecOf[resource.StampSpec](s.Resource)
		if err != nil {
			return nil, err
		}
		if stamp != "" && stamp != s.Metadata.Name || environment != "" && environment != spec.Environment {
			continue
		}
		o := client.LogOptions{Stamp: s.Metadata.Name}
		sources = append(sources, logReader{log: client.Messages, options: o}, logReader{log: client.Events, options: o})
	}
	if len(sources) == 0 {
		return nil, withHint(usage("there is no such stamp to watch"), "`slipway stamp list` shows what there is")
	}
	return sources, nil
}

func (a *app) watch(ctx context.Context, c *client.Client, sources []logReader) error {
	printer := &recordPrinter{app: a}
	group, ctx := errgroup.WithContext(ctx)
	for _, r := range sources {
		group.Go(func() error { return follow(ctx, c, r.device, r.log, r.options, printer.print) })
	}
	return group.Wait()
}

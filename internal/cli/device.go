package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

func (a *app) deviceCommand() *cobra.Command {
	c := &cobra.Command{Use: "device", Aliases: []string{"devices"}, Short: "Devices: list, show, move, twin, method, message, watch"}
	c.AddCommand(
		a.deviceList(), a.deviceShow(), a.deviceMove(), a.deviceTwin(), a.deviceMethod(), a.deviceMessage(),
		a.deviceLog("messages", client.Messages, "Print a device's telemetry, one JSON object a line with --json"),
		a.deviceLog("events", client.Events, "Print what happened to a device"), a.deviceWatch(),
	)
	return c
}

func (a *app) deviceList() *cobra.Command {
	var f fleet.Filter
	var phase string
	c := &cobra.Command{
		Use: "list", Short: "List devices in order of id",
		Example: `  slipway device list --environment test
  slipway device list --where "tags.batch = '7' AND properties.reported.firmware.version != '1.5'"
  slipway device list --search sensor-00 --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			f.Phase = link.Phase(phase)
			return a.listDevices(c.Context(), f)
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.Search, "search", "", "part of the device id")
	flags.StringVar(&f.Where, "where", "", "condition over tags, twin and state")
	flags.StringVar(&f.Environment, "environment", "", "environment the device is in or going to")
	flags.StringVar(&f.Stamp, "stamp", "", "stamp the device is on")
	flags.StringVar(&phase, "phase", "", "creating, assigned, removing or waiting")
	flags.StringVar(&f.After, "after", "", "begin after this device id")
	flags.IntVar(&f.Limit, "limit", 100, "devices at most")
	return a.reads(c)
}

func (a *app) listDevices(ctx context.Context, f fleet.Filter) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	page, err := api.Devices(ctx, f)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(page)
	}
	rows := [][]string{{"device", "environment", "stamp", "status", "connected", "messages", "last activity"}}
	for _, d := range page.Items {
		connected := "no"
		if d.Connected {
			connected = "yes"
		}
		if !d.StampReachable {
			connected = "?"
		}
		rows = append(rows, []string{d.DeviceID, d.Environment, first(d.Stamp, "-"), d.Status, connected, strconv.FormatInt(d.Messages, 10), a.when(d.LastActivity)})
	}
	if err := a.table(rows); err != nil {
		return err
	}
	for _, gap := range page.Incomplete {
		fmt.Fprintf(a.err, "slipway: stamp %s did not answer: %s\n", gap.Stamp, gap.Problem)
	}
	if page.Next != "" {
		fmt.Fprintf(a.err, "more: --after %s\n", page.Next)
	}
	return nil
}

func (a *app) deviceShow() *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "show ID", Short: "Show everything known of a device", Example: "  slipway device show sensor-0001 --json", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			d, err := api.Device(c.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(d)
			}
			return a.showDevice(d)
		},
	})
}

func (a *app) showDevice(d fleet.Detail) error {
	yes := map[bool]string{true: "yes", false: "no"}
	rows := [][]string{
		{"device", d.DeviceID}, {"environment", d.Environment}, {"stamp", first(d.Stamp, "-")}, {"status", d.Status}, {"connected", yes[d.Connected]},
		{"enrollment", d.EnrollmentKind + " " + d.Enrollment}, {"assigned", a.when(d.AssignedAt)}, {"epoch", strconv.FormatInt(d.Epoch, 10)},
		{"messages", strconv.FormatInt(d.Messages, 10)}, {"queued", strconv.Itoa(d.QueuedMessages)}, {"last activity", a.when(d.LastActivity)},
	}
	if d.Problem != "" {
		rows = append(rows, []string{"problem", d.Problem})
	}
	for _, row := range rows {
		fmt.Fprintf(a.out, "%-14s %s\n", row[0], row[1])
	}
	fmt.Fprintln(a.out, "\nHistory")
	for _, t := range d.Transitions {
		at := t.At
		fmt.Fprintf(a.out, "  %-22s %-10s %-14s %-18s %s\n", a.when(&at), t.Step, t.Environment, first(t.Stamp, "-"), t.Reason)
	}
	if len(d.Twin) > 0 {
		fmt.Fprintln(a.out, "\nTwin")
		return a.printIndented(d.Twin)
	}
	return nil
}

func (a *app) printIndented(document json.RawMessage) error {
	var value any
	if err := json.Unmarshal(document, &value); err != nil {
		return err
	}
	encoder := json.NewEncoder(a.out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

func (a *app) deviceTwin() *cobra.Command {
	var ifMatch string
	c := &cobra.Command{Use: "twin", Short: "A device's twin: get, set, replace"}
	get := a.reads(&cobra.Command{
		Use: "get ID", Short: "Print the twin", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			twin, err := api.Twin(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.printIndented(twin)
		},
	})
	change := func(use, short, example string, call func(*client.Client) func(context.Context, string, string, json.RawMessage) (json.RawMessage, error)) *cobra.Command {
		command := &cobra.Command{
			Use: use, Short: short, Example: example, Args: exactly(2),
			RunE: func(c *cobra.Command, args []string) error {
				patch, err := a.argument(args[1])
				if err != nil {
					return err
				}
				api, err := a.client()
				if err != nil {
					return err
				}
				twin, err := call(api)(c.Context(), args[0], ifMatch, patch)
				if err != nil {
					return err
				}
				return a.printIndented(twin)
			},
		}
		command.Flags().StringVar(&ifMatch, "if-match", "", "ETag the twin must have")
		return a.reads(command)
	}
	c.AddCommand(get,
		change("set ID PATCH", "Merge JSON into tags and desired properties", `  slipway device twin set sensor-0001 '{"properties":{"desired":{"reportEvery":1}}}'
  slipway device twin set sensor-0001 @patch.json`, func(api *client.Client) func(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
			return api.PatchTwin
		}),
		change("replace ID DOCUMENT", "Replace tags and desired properties", `  slipway device twin replace sensor-0001 '{"tags":{"batch":"8"},"properties":{"desired":{}}}'`, func(api *client.Client) func(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
			return api.ReplaceTwin
		}),
	)
	return c
}

// argument is JSON given as text, as @file, or as - for standard input.
func (a *app) argument(text string) (json.RawMessage, error) {
	content := []byte(text)
	var err error
	if text == "-" {
		content, err = io.ReadAll(a.in)
	} else if file, ok := strings.CutPrefix(text, "@"); ok {
		content, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, err
	}
	if !json.Valid(content) {
		return nil, usage{fmt.Errorf("%q is not JSON; quote it for the shell, or use @file", text)}
	}
	return content, nil
}

func (a *app) deviceMethod() *cobra.Command {
	var m client.Method
	c := &cobra.Command{
		Use: "method ID METHOD [PAYLOAD]", Short: "Run a direct method on a device and print its answer",
		Example: `  slipway device method sensor-0001 reboot '{"delay":5}'`, Args: cobra.RangeArgs(2, 3),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if len(args) == 3 {
				if m.Payload, err = a.argument(args[2]); err != nil {
					return err
				}
			}
			api, err := a.client()
			if err != nil {
				return err
			}
			result, err := api.InvokeMethod(c.Context(), args[0], args[1], m)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(result)
			}
			fmt.Fprintf(a.out, "%d %s\n", result.Status, result.Payload)
			return nil
		},
	}
	c.Flags().IntVar(&m.ResponseTimeoutSeconds, "timeout", 30, "seconds to wait for the answer, 5 to 300")
	c.Flags().IntVar(&m.ConnectTimeoutSeconds, "connect-timeout", 0, "seconds to wait for the device to connect, 0 to 300")
	return a.reads(c)
}

func (a *app) deviceMessage() *cobra.Command {
	c := &cobra.Command{Use: "message", Short: "Messages to a device: send, list, purge"}
	c.AddCommand(a.messageSend(), a.messageList(), a.messagePurge())
	return c
}

func (a *app) messageSend() *cobra.Command {
	var command client.Command
	var ttl time.Duration
	c := &cobra.Command{
		Use: "send ID TEXT", Short: "Queue a message for a device", Example: `  slipway device message send sensor-0001 "open the valve" --property urgency=high`, Args: exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			command.BodyBase64, command.TTLSeconds = []byte(args[1]), int(ttl.Seconds())
			api, err := a.client()
			if err != nil {
				return err
			}
			queued, err := api.SendCommand(c.Context(), args[0], command)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(queued)
			}
			fmt.Fprintf(a.out, "queued %s, expires %s\n", queued.MessageID, queued.ExpiresAt.Format(time.RFC3339))
			return nil
		},
	}
	flags := c.Flags()
	flags.StringToStringVar(&command.Properties, "property", nil, "application property key=value (repeatable)")
	flags.StringVar(&command.MessageID, "message-id", "", "id of the message; made when empty")
	flags.StringVar(&command.ContentType, "content-type", "", "content type")
	flags.DurationVar(&ttl, "ttl", time.Hour, "how long it waits for the device, 1m to 48h")
	return a.reads(c)
}

func (a *app) messageList() *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "list ID", Short: "List the messages that wait for a device", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			all, err := api.Commands(c.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(client.Page[link.QueuedMessage]{Items: all})
			}
			rows := [][]string{{"message", "size", "deliveries", "queued", "expires"}}
			for _, m := range all {
				rows = append(rows, []string{m.MessageID, strconv.Itoa(m.Size), strconv.Itoa(m.Deliveries), a.when(&m.EnqueuedAt), m.ExpiresAt.Format(time.RFC3339)})
			}
			return a.table(rows)
		},
	})
}

func (a *app) messagePurge() *cobra.Command {
	return &cobra.Command{
		Use: "purge ID", Short: "Drop the messages that wait for a device", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			purged, err := api.PurgeCommands(c.Context(), args[0])
			if err == nil {
				fmt.Fprintf(a.out, "dropped %d messages\n", purged.Total)
			}
			return err
		},
	}
}

func (a *app) deviceLog(name, log, short string) *cobra.Command {
	var o client.LogOptions
	var follow bool
	var last int
	c := &cobra.Command{
		Use: name + " ID", Short: short, Example: "  slipway device " + name + " sensor-0001 --last 10 --json\n  slipway device " + name + " sensor-0001 --follow", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if last > 0 {
				o.Last, o.Limit = true, last
			}
			return a.printLog(c.Context(), args[0], log, o, follow)
		},
	}
	flags := c.Flags()
	flags.IntVar(&last, "last", 0, "print the newest N instead of all")
	flags.Uint64Var(&o.After, "after", 0, "begin after this sequence")
	flags.StringVar(&o.Stamp, "stamp", "", "read another stamp than the one the device is on")
	flags.BoolVar(&follow, "follow", false, "go on with new ones")
	return a.reads(c)
}

func (a *app) printLog(ctx context.Context, id, log string, o client.LogOptions, follow bool) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	if !follow || o.Last {
		o.Limit = max(o.Limit, map[bool]int{true: 0, false: 1000}[o.Last])
		for {
			page, err := api.Log(ctx, id, log, o)
			if err != nil {
				return err
			}
			for _, r := range page.Items {
				if err := a.printRecord(r); err != nil {
					return err
				}
				o.After = r.Sequence
			}
			if o.Last || page.NextAfter == 0 {
				break
			}
		}
	}
	if !follow {
		return nil
	}
	o.Last, o.Limit = false, 0
	return api.FollowLog(ctx, id, log, o, a.printRecord)
}

func (a *app) printRecord(r link.LogRecord) error {
	if a.json {
		encoder := json.NewEncoder(a.out)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(r)
	}
	text := string(r.Body)
	if r.Kind != "" {
		text = r.Kind
	} else if text == "" {
		text = fmt.Sprintf("%q", r.BodyBase64)
	}
	keys := make([]string, 0, len(r.Properties))
	for key := range r.Properties {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		text += "  " + key + "=" + r.Properties[key]
	}
	_, err := fmt.Fprintf(a.out, "%s  %-16s %-14s %s\n", r.EnqueuedTime.Local().Format("15:04:05.000"), r.DeviceID, r.Stamp, text)
	return err
}

func (a *app) deviceWatch() *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "watch ID", Short: "Print a device's telemetry and events as they come, wherever it is", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			ctx, cancel := signal.NotifyContext(c.Context(), os.Interrupt)
			defer cancel()
			if _, err := api.Device(ctx, args[0]); err != nil {
				return err
			}
			ended := make(chan error, 2)
			for _, log := range []string{client.Messages, client.Events} {
				go func() { ended <- api.FollowLog(ctx, args[0], log, client.LogOptions{}, a.printRecord) }()
			}
			err = <-ended
			cancel()
			if other := <-ended; err == nil {
				err = other
			}
			if problem.Is(err, problem.NotReady) && ctx.Err() != nil {
				return nil
			}
			return err
		},
	})
}

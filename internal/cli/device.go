package cli

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

func (a *app) device() *cobra.Command {
	group := a.group("device", "See devices, speak to them, and move them", "",
		a.deviceList(), a.deviceShow(), a.deviceExplain(), a.deviceMove(), a.deviceDecommission(), a.deviceRecommission(), a.deviceDecommissioned(), a.deviceTwin(), a.deviceMethod(), a.deviceUpdateToken(),
		a.deviceMessage(), a.deviceLog(client.Messages, "telemetry"), a.deviceLog(client.Events, "events"), a.deviceWatch())
	group.Aliases = []string{"devices"}
	return group
}

var deviceHeader = []string{"DEVICE", "ENVIRONMENT", "STAMP", "STATUS", "CONNECTED", "LAST ACTIVITY", "MESSAGES"}

func (a *app) deviceRow(d fleet.Device) []string {
	return []string{d.DeviceID, d.Environment, d.Stamp, d.Status, yesNo(d.Connected), a.when(d.LastActivity), strconv.FormatInt(d.Messages, 10)}
}

func (a *app) deviceList() *cobra.Command {
	var f fleet.Filter
	var phase string
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List devices in order of id", Args: cobra.NoArgs,
		Example: "  slipway device list --environment production\n  slipway device list --where \"tags.batch = '7' AND properties.reported.selfTest = 'ok'\"",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			f.Phase = link.Phase(phase)
			return a.listDevices(ctx, c, f)
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&f.Search, "search", "", "part of a device id")
	flags.StringVar(&f.Where, "where", "", "condition over tags, properties and state")
	flags.StringVar(&f.Environment, "environment", "", "only this environment")
	flags.StringVar(&f.Tenant, "tenant", "", "only this tenant's devices")
	flags.StringVar(&f.Stamp, "stamp", "", "only this stamp")
	flags.StringVar(&phase, "phase", "", "only creating, assigned, removing or waiting ones")
	flags.StringVar(&f.After, "after", "", "begin after this device id")
	flags.IntVar(&f.Limit, "limit", 0, "at most so many; default all")
	a.complete(cmd, "environment", environments)
	a.complete(cmd, "stamp", stamps)
	return cmd
}

// listDevices prints pages as they come; as JSON they are one list.
func (a *app) listDevices(ctx context.Context, c *client.Client, f fleet.Filter) error {
	if f.Limit < 0 {
		return usage("--limit must not be negative")
	}
	whole := fleet.Page{Items: []fleet.Device{}}
	for left, all := f.Limit, f.Limit == 0; all || left > 0; left -= f.Limit {
		if f.Limit = link.MaxPage; !all {
			f.Limit = min(left, link.MaxPage)
		}
		page, err := c.Devices(ctx, f)
		if err != nil {
			return err
		}
		whole.Incomplete = append(whole.Incomplete, page.Incomplete...)
		if a.asJSON {
			whole.Items = append(whole.Items, page.Items...)
		} else if err := a.deviceTable(page.Items); err != nil {
			return err
		}
		if whole.Next, f.After = page.Next, page.Next; page.Next == "" {
			break
		}
	}
	slices.SortFunc(whole.Incomplete, func(x, y fleet.Gap) int { return strings.Compare(x.Stamp, y.Stamp) })
	whole.Incomplete = slices.CompactFunc(whole.Incomplete, func(x, y fleet.Gap) bool { return x.Stamp == y.Stamp })
	for _, gap := range whole.Incomplete {
		a.note("note: what stamp %s knows is missing: %s\n", gap.Stamp, clean(gap.Problem))
	}
	if a.asJSON {
		return a.json(whole)
	}
	return nil
}

func (a *app) deviceTable(devices []fleet.Device) error {
	rows := make([][]string, len(devices))
	for i, d := range devices {
		rows[i] = a.deviceRow(d)
	}
	return a.table(deviceHeader, rows)
}

func (a *app) deviceShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show ID", Short: "Show a device: where it is, where it was, its twin", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeDevices,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			d, err := c.Device(ctx, args[0])
			if err != nil {
				return ofDevice(err)
			}
			if a.asJSON {
				return a.json(d)
			}
			return a.showDevice(d)
		}),
	})
}

// ofDevice says how to find a device that is not there.
func ofDevice(err error) error {
	if problem.Is(err, problem.NotFound) {
		return withHint(err, "`slipway device list --search PART` finds ids; devices are listed once they have registered")
	}
	return err
}

func (a *app) showDevice(d fleet.Detail) error {
	facts := [][]string{
		{"device", d.DeviceID}, {"tenant", d.Tenant}, {"environment", d.Environment}, {"stamp", d.Stamp}, {"status", d.Status},
		{"connected", yesNo(d.Connected)}, {"last activity", a.when(d.LastActivity)}, {"messages", strconv.FormatInt(d.Messages, 10)},
		{"queued messages", strconv.Itoa(d.QueuedMessages)}, {"registration", d.RegistrationID}, {"enrolment", d.EnrollmentKind + "/" + d.Enrollment},
		{"authentication", string(d.AuthType)}, {"assigned", a.when(d.AssignedAt)}, {"created", a.when(&d.CreatedAt)},
	}
	if d.Problem != "" {
		facts = append(facts, []string{"problem", d.Problem})
	}
	if !d.StampReachable {
		facts = append(facts, []string{"note", "its stamp did not answer; what it knows is missing"})
	}
	if err := a.table([]string{"FACT", "VALUE"}, facts); err != nil {
		return err
	}
	if err := a.print("\n"); err != nil {
		return err
	}
	rows := make([][]string, len(d.History))
	for i, stay := range d.History {
		rows[i] = []string{stay.Environment, stay.Stamp, a.when(&stay.From), a.when(stay.To), stay.Reason}
	}
	if err := a.table([]string{"WAS IN", "STAMP", "FROM", "TO", "REASON"}, rows); err != nil {
		return err
	}
	if len(d.Twin) == 0 {
		return nil
	}
	return a.print("\n%s\n", indented(d.Twin))
}

// indented lays out JSON for reading; what is no JSON stays as it is.
func indented(text json.RawMessage) []byte {
	laid, err := json.MarshalIndent(text, "", "  ")
	if err != nil {
		return text
	}
	return laid
}

func (a *app) deviceMethod() *cobra.Command {
	var response, connect time.Duration
	cmd := a.read(&cobra.Command{
		Use: "method ID NAME [PAYLOAD]", Short: "Run a direct method and print the device's answer; exits 1 if its status is 400 or more",
		Args: cobra.RangeArgs(2, 3), ValidArgsFunction: a.completeDevices,
		Example: "  slipway device method sensor-0001 blink '{\"times\": 3}'",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			m := client.Method{ResponseTimeoutSeconds: seconds(response), ConnectTimeoutSeconds: seconds(connect)}
			if len(args) == 3 {
				if m.Payload = json.RawMessage(args[2]); !json.Valid(m.Payload) {
					return usage("the payload must be JSON, which %q is not; text is written '\"in quotes\"'", args[2])
				}
			}
			result, err := c.InvokeMethod(ctx, args[0], args[1], m)
			if problem.Is(err, problem.NotReady) {
				return withHint(err, "--connect-timeout 1m waits for a device that is away; `slipway doctor` checks the way to it")
			}
			if err != nil {
				return ofDevice(err)
			}
			return a.showResult(result)
		}),
	})
	cmd.Flags().DurationVar(&response, "timeout", 30*time.Second, "how long the device may take to answer: 5s to 5m")
	cmd.Flags().DurationVar(&connect, "connect-timeout", 0, "how long to wait for a device that is not connected: up to 5m")
	return cmd
}

// seconds rounds up, so that a short wait does not become none.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

func (a *app) showResult(result link.MethodResult) error {
	if a.asJSON {
		if err := a.json(result); err != nil {
			return err
		}
	} else if err := a.table([]string{"STATUS", "PAYLOAD"}, [][]string{{strconv.Itoa(result.Status), string(result.Payload)}}); err != nil {
		return err
	}
	if result.Status >= 400 {
		return answer(exitFailed)
	}
	return nil
}

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/fleetfile"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// importOrder is what `import` was asked.
type importOrder struct {
	file, format, errorsFile string
	columns                  []string
	fromLine                 int64
	link.ImportDevices
}

func (a *app) importing() *cobra.Command {
	var o importOrder
	cmd := a.read(&cobra.Command{
		Use: "import FILE --environment ENVIRONMENT", Short: "Take over devices that exist already, with their credentials and twins",
		Long: "Take over devices that exist already, with the credentials and twins they have.\n\n" +
			"FILE is CSV whose first line names the columns, or a registry's export as Azure IoT\n" +
			"Hub writes it (devices.txt, lines of JSON); - is stdin. Each device is enrolled by its\n" +
			"own key or thumbprint and gets a place on a stamp. Columns are: deviceId,\n" +
			"registrationId, primaryKey, secondaryKey, primaryThumbprint, secondaryThumbprint,\n" +
			"status, statusReason, tenant, stamp, edge, tags, desired, reported, tags.NAME and\n" +
			"desired.NAME.\n\n" +
			"What is wrong with a line is told with its number, and keeps no other out; the exit\n" +
			"code is 1 then. Running it again changes nothing that is there already, so a list\n" +
			"that was interrupted, or mended, is simply imported again.",
		Example: "  slipway import fleet.csv --environment production --dry-run\n" +
			"  slipway import fleet.csv --environment production --map deviceId=Serial --map tags.site=Location\n" +
			"  slipway import devices.txt --environment production --enrollment-group plant-ca",
		Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			o.file = args[0]
			return a.importFleet(ctx, c, o)
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&o.Environment, "environment", "", "where the devices are in use: usually production")
	flags.StringVar(&o.Tenant, "tenant", "", "whose they are, where the file does not say")
	flags.StringVar(&o.Stamp, "stamp", "", "the stamp they go to, where the file does not say; default any that has room")
	flags.StringVar(&o.Group, "enrollment-group", "", "group whose key or authority the credentials come from of devices that have none of their own")
	flags.StringVar(&o.format, "format", "", "csv or jsonl; default by what the file begins with")
	flags.StringArrayVar(&o.columns, "map", nil, "FIELD=COLUMN: which column of CSV has a field; may be repeated")
	flags.BoolVar(&o.DryRun, "dry-run", false, "check every line, here and at the installation; do nothing")
	flags.Int64Var(&o.fromLine, "from-line", 0, "leave out what is before this line")
	flags.StringVar(&o.errorsFile, "errors", "", "file for all refused lines, as lines of JSON")
	if err := cmd.MarkFlagRequired("environment"); err != nil {
		panic(err) // the flag is defined above
	}
	a.complete(cmd, "environment", environments)
	return cmd
}

// importRun is an import under way.
type importRun struct {
	*app
	client *client.Client
	order  importOrder
	errors io.Writer // nil for none
	seen   map[string]int64
	done   importReport
	begun  time.Time
}

// importReport is what became of a list.
type importReport struct {
	DryRun    bool            `json:"dryRun,omitempty"`
	Created   int             `json:"created"`
	Unchanged int             `json:"unchanged"`
	Refused   int             `json:"refused"`
	Line      int64           `json:"line"` // the last one worked off
	Left      []string        `json:"columnsLeftOut,omitempty"`
	Faults    []importFailure `json:"errors,omitempty"`
}

// importFailure is what is wrong with one line.
type importFailure struct {
	Line     int64  `json:"line"`
	DeviceID string `json:"deviceId,omitempty"`
	Field    string `json:"field,omitempty"`
	Error    string `json:"error"`
}

const (
	importBytes = 600 << 10 // of one request: the API takes a megabyte
	shownFaults = 20        // the others are counted, or in a file
)

func (a *app) importFleet(ctx context.Context, c *client.Client, o importOrder) (err error) {
	columns, err := columnsOf(o.columns)
	if err != nil {
		return err
	}
	in := a.in
	if o.file != "-" {
		file, err := os.Open(o.file)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	list, err := fleetfile.New(in, fleetfile.Options{Format: fleetfile.Format(o.format), Map: columns})
	if err != nil {
		return fmt.Errorf("%s: %w", o.file, err)
	}
	run := &importRun{app: a, client: c, order: o, seen: map[string]int64{}, begun: time.Now(), done: importReport{DryRun: o.DryRun, Left: list.Left()}}
	if o.errorsFile != "" {
		file, err := os.OpenFile(o.errorsFile, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		run.errors = file
	}
	if err := run.work(ctx, list); err != nil {
		if run.done.Line > 0 {
			err = withHint(err, "the lines up to %d are worked off: the same command again leaves them as they are, and with --from-line %d does not look at them", run.done.Line, run.done.Line+1)
		}
		return err
	}
	return run.report()
}

// columnsOf reads FIELD=COLUMN pairs.
func columnsOf(pairs []string) (map[string]string, error) {
	columns := map[string]string{}
	for _, pair := range pairs {
		field, column, ok := strings.Cut(pair, "=")
		if !ok || field == "" || column == "" {
			return nil, usage("--map reads FIELD=COLUMN, such as deviceId=Serial, not %q", pair)
		}
		if columns[field] != "" {
			return nil, usage("--map names two columns for %s", field)
		}
		columns[field] = column
	}
	return columns, nil
}

// work reads the list and sends what is in order, in batches.
func (r *importRun) work(ctx context.Context, list fleetfile.Reader) error {
	var batch []fleetfile.Entry
	size := 0
	for {
		e, err := list.Next()
		if errors.Is(err, io.EOF) {
			return r.send(ctx, batch)
		}
		if err != nil {
			return errors.Join(r.send(ctx, batch), fmt.Errorf("%s: %w", r.order.file, err))
		}
		if e.Line < r.order.fromLine {
			continue
		}
		if e.Err == nil {
			e.Err = r.repeated(e)
		}
		if e.Err != nil {
			p := problem.Of(e.Err)
			if err := r.refuse(importFailure{e.Line, e.Device.DeviceID, p.Field, p.Message}); err != nil {
				return err
			}
			continue
		}
		text, err := json.Marshal(e.Device)
		if err != nil {
			return err
		}
		if len(batch) == link.MaxImport || size+len(text) > importBytes && len(batch) > 0 {
			if err := r.send(ctx, batch); err != nil {
				return err
			}
			batch, size = nil, 0
		}
		batch, size = append(batch, e), size+len(text)
	}
}

// repeated refuses a device that an earlier line has.
func (r *importRun) repeated(e fleetfile.Entry) error {
	id := strings.ToLower(cmp.Or(e.Device.RegistrationID, e.Device.DeviceID))
	if before, known := r.seen[id]; known {
		return problem.New(problem.Invalid, "%s is on line %d already", id, before).At("deviceId")
	}
	r.seen[id] = e.Line
	return nil
}

// send has a batch taken over, and waits where the installation says so.
func (r *importRun) send(ctx context.Context, batch []fleetfile.Entry) error {
	if len(batch) == 0 {
		return ctx.Err()
	}
	req := r.order.ImportDevices
	for _, e := range batch {
		req.Devices = append(req.Devices, e.Device)
	}
	for {
		items, err := r.client.ImportDevices(ctx, req)
		if problem.Is(err, problem.Busy) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(max(problem.Of(err).RetryAfter, time.Second)):
				continue
			}
		}
		if err != nil {
			return err
		}
		return r.count(batch, items)
	}
}

// count notes what became of a batch.
func (r *importRun) count(batch []fleetfile.Entry, items []link.ImportedDevice) error {
	for i, item := range items {
		switch item.Result {
		case link.ImportCreated:
			r.done.Created++
		case link.ImportUnchanged:
			r.done.Unchanged++
		default:
			if err := r.refuse(importFailure{batch[i].Line, item.DeviceID, item.Field, item.Error}); err != nil {
				return err
			}
		}
	}
	r.done.Line = batch[len(batch)-1].Line
	all := r.done.Created + r.done.Unchanged + r.done.Refused
	r.progress(fmt.Sprintf("line %d: %d created, %d unchanged, %d refused, %.0f/s", r.done.Line, r.done.Created, r.done.Unchanged, r.done.Refused, float64(all)/time.Since(r.begun).Seconds()))
	return nil
}

// refuse notes what is wrong with a line.
func (r *importRun) refuse(f importFailure) error {
	r.done.Refused++
	if r.asJSON || r.done.Refused <= shownFaults {
		r.done.Faults = append(r.done.Faults, f)
	}
	if !r.asJSON && r.done.Refused <= shownFaults {
		r.progress("")
		field := ""
		if f.Field != "" {
			field = f.Field + ": "
		}
		r.note("%s:%d: %s%s%s\n", r.order.file, f.Line, prefixed(f.DeviceID), field, f.Error)
	}
	if r.errors == nil {
		return nil
	}
	text, err := json.Marshal(f)
	if err == nil {
		_, err = r.errors.Write(append(text, '\n'))
	}
	return err
}

func prefixed(device string) string {
	if device == "" {
		return ""
	}
	return device + ": "
}

// report tells what became of the list.
func (r *importRun) report() error {
	r.progress("")
	if r.asJSON {
		if err := r.json(r.done); err != nil {
			return err
		}
	} else {
		would := ""
		if r.done.DryRun {
			would = "would be "
		}
		if len(r.done.Left) > 0 {
			r.note("nothing is made of the columns %s; --map FIELD=COLUMN says what one is\n", strings.Join(r.done.Left, ", "))
		}
		if more := r.done.Refused - shownFaults; more > 0 {
			r.note("and %d more; --errors FILE writes all of them\n", more)
		}
		if err := r.print("%d %screated, %d unchanged, %d refused\n", r.done.Created, would, r.done.Unchanged, r.done.Refused); err != nil {
			return err
		}
	}
	if r.done.Refused > 0 {
		return answer(exitFailed)
	}
	return nil
}

package cli

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/dossier"
	"github.com/slipway/slipway/internal/control/erasure"
	"github.com/slipway/slipway/internal/problem"
)

func (a *app) erasure() *cobra.Command {
	group := a.group("erasure", "Erase everything kept of a device or a tenant, with proof",
		"An erasure makes every plane forget a device, or a tenant with all its devices: what they sent,\ntheir files, twins, registrations, and their names in the audit log. It ends with a signed\nstatement of what was erased where, and what remains until when.",
		a.erasureStart(), a.erasureList(), a.erasureShow(), a.erasureProof(), a.erasureVerify())
	group.Aliases = []string{"erasures"}
	return group
}

// subjectFlags are the flags that name a device or a tenant.
type subjectFlags struct{ device, tenant string }

func (s *subjectFlags) add(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&s.device, "device", "", "the device "+what)
	cmd.Flags().StringVar(&s.tenant, "tenant", "", "the tenant, with all its devices, "+what)
	cmd.MarkFlagsOneRequired("device", "tenant")
	cmd.MarkFlagsMutuallyExclusive("device", "tenant")
}

func (s *subjectFlags) kind() (kind, subject string) {
	if s.tenant != "" {
		return erasure.Tenant, s.tenant
	}
	return erasure.Device, s.device
}

func (a *app) erasureStart() *cobra.Command {
	var subject subjectFlags
	var reason string
	var wait bool
	var timeout time.Duration
	cmd := a.read(&cobra.Command{
		Use: "start --device DEVICE | --tenant TENANT", Short: "Begin to erase; it cannot be taken back", Args: cobra.NoArgs,
		Long:    "Begin to erase; it cannot be taken back. Devices are barred and taken off their stamps first.\nWhat is away is asked again when it is back. A legal hold stops it.",
		Example: "  slipway erasure start --device sensor-1 --reason \"request 1207\" --wait\n  slipway erasure start --tenant acme --reason \"contract ended\"",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			kind, name := subject.kind()
			e, err := c.StartErasure(ctx, kind, name, reason)
			if err == nil && wait {
				limited, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				e, err = a.awaitErasure(limited, c, e)
			}
			if err != nil {
				return err
			}
			return a.showErasure(e)
		}),
	})
	subject.add(cmd, "that is to be forgotten")
	because(cmd, &reason)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until all planes have erased; exit code 8 where that takes longer than --timeout")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Minute, "how long to wait")
	return cmd
}

func (a *app) awaitErasure(ctx context.Context, c *client.Client, e erasure.Erasure) (erasure.Erasure, error) {
	defer a.progress("")
	for e.State != erasure.Done {
		a.progress(fmt.Sprintf("%s: %s, %d of %d devices %s", e.ID, e.State, e.Erased, e.Devices, e.Problem))
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return e, problem.New(problem.TimedOut, "%s is still %s; `slipway erasure show %s` tells how far it is", e.ID, e.State, e.ID)
			}
			return e, ctx.Err()
		case <-time.After(followEvery):
		}
		now, err := c.Erasure(ctx, e.ID)
		if err != nil && ctx.Err() == nil {
			return e, err
		}
		if err == nil {
			e = now
		}
	}
	return e, nil
}

func (a *app) showErasure(e erasure.Erasure) error {
	if a.asJSON {
		return a.json(e)
	}
	rows := [][]string{
		{"erasure", e.ID}, {"of", strings.TrimSpace(e.Kind + " " + e.Subject)}, {"state", string(e.State)}, {"devices", fmt.Sprintf("%d of %d erased everywhere", e.Erased, e.Devices)},
		{"asked", a.when(&e.At) + " by " + e.By}, {"ended", a.when(e.EndedAt)}, {"waits for", e.Problem},
	}
	for _, p := range e.Planes {
		for _, f := range p.Removed {
			rows = append(rows, []string{p.Plane, fmt.Sprintf("%d %s", f.Count, f.Kind)})
		}
	}
	return a.table(nil, rows)
}

func (a *app) erasureList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List erasures, newest first; those that are done name nobody", Args: cobra.NoArgs, Example: "  slipway erasure list --json",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Erasures(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, e := range all {
				rows[i] = []string{e.ID, e.Kind, e.Subject, string(e.State), strconv.Itoa(e.Erased) + "/" + strconv.Itoa(e.Devices), a.when(&e.At), e.Problem}
			}
			return a.table([]string{"ERASURE", "KIND", "OF", "STATE", "ERASED", "ASKED", ""}, rows)
		}),
	})
}

func (a *app) erasureShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show ERASURE", Short: "Show how far an erasure is, and what each plane has erased", Args: cobra.ExactArgs(1), Example: "  slipway erasure show erasure-3",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			e, err := c.Erasure(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showErasure(e)
		}),
	})
}

func (a *app) erasureProof() *cobra.Command {
	return &cobra.Command{
		Use: "proof ERASURE", Short: "Write the signed statement of an erasure, with its proof from the audit log", Args: cobra.ExactArgs(1),
		Example: "  slipway erasure proof erasure-3 > erased.json\n  slipway erasure verify erased.json --key audit.pub --subject sensor-1",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.ProveErasure(ctx, args[0])
			if err != nil {
				return err
			}
			return a.json(p)
		}),
	}
}

func (a *app) erasureVerify() *cobra.Command {
	var key, subject string
	cmd := a.read(&cobra.Command{
		Use: "verify FILE", Short: "Verify the proof of an erasure; needs no installation", Args: cobra.ExactArgs(1),
		Long:    "Verify the proof of an erasure: that its statement was signed by the key of the audit log, and\nthat the log has an entry with its digest. With --subject also that it is about that device or\ntenant, which the statement names to nobody who does not know it.\n\nExit codes: 0 verified; 3 it is not what it says.",
		Example: "  slipway erasure verify erased.json --key audit.pub --subject sensor-1",
		RunE: a.run(func(_ *cobra.Command, args []string) error {
			trust, err := trustOf(key, nil)
			if err != nil {
				return err
			}
			text, err := readBounded(args[0], maxStatement)
			if err != nil {
				return err
			}
			var p erasure.ErasureProof
			if err := json.Unmarshal(text, &p); err != nil {
				return problem.New(problem.Invalid, "the proof cannot be read: %w", err)
			}
			st, err := erasure.Verify(p, trust.Key)
			if err == nil && subject != "" && !st.About(subject) {
				err = problem.New(problem.Invalid, "the statement is about another %s than %s", st.Kind, subject)
			}
			if err != nil {
				a.note("%s\n", clean(problem.Of(err).Message))
				return answer(exitNo)
			}
			return a.showStatement(st)
		}),
	})
	cmd.Flags().StringVar(&key, "key", "", "public key of the audit log, or a file that holds it; default the proof's own")
	cmd.Flags().StringVar(&subject, "subject", "", "the device or tenant that it is to be about")
	return cmd
}

// maxStatement bounds the proof of an erasure.
const maxStatement = 16 << 20

func (a *app) showStatement(st erasure.Statement) error {
	if a.asJSON {
		return a.json(st)
	}
	rows := [][]string{{"verified", st.Erasure + ", of a " + st.Kind}, {"devices", strconv.Itoa(st.Devices)}, {"ended", a.when(&st.EndedAt)}}
	for _, p := range st.Planes {
		for _, f := range p.Removed {
			rows = append(rows, []string{p.Plane, fmt.Sprintf("%d %s", f.Count, f.Kind)})
		}
	}
	for _, r := range st.Remains {
		until := "stays"
		if r.Until != nil {
			until = "until " + r.Until.Format(time.DateOnly)
		}
		rows = append(rows, []string{"remains", r.What + ": " + until})
	}
	return a.table(nil, rows)
}

func (a *app) dossier() *cobra.Command {
	var subject subjectFlags
	var reason, output string
	cmd := &cobra.Command{
		Use: "dossier --device DEVICE | --tenant TENANT", Short: "Hand out everything kept of a device or a tenant", Args: cobra.NoArgs,
		Long:    "Hand out everything that all planes keep of a device, or of a tenant with its devices: a zip\narchive of JSON lines by plane and kind, and the files that devices sent. Secrets are not in\nit. It ends with manifest.json, which says whether every plane answered; exit code 6 where\none did not.",
		Example: "  slipway dossier --device sensor-1 --reason \"request 1207\" --output sensor-1.zip\n  slipway dossier --tenant acme --reason \"end of contract\" --output acme.zip",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) (err error) {
			kind, name := subject.kind()
			file, err := os.OpenFile(output, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			defer func() {
				if err = errors.Join(err, file.Close()); err != nil && !problem.Is(err, problem.NotReady) {
					err = errors.Join(err, os.Remove(output))
				}
			}()
			if err := c.ExportSubject(ctx, kind, name, reason, file); err != nil {
				return err
			}
			return a.readManifest(output)
		}),
	}
	subject.add(cmd, "whose data is wanted")
	because(cmd, &reason)
	cmd.Flags().StringVar(&output, "output", "dossier.zip", "the archive that is written; it must not be there")
	return cmd
}

// readManifest reads an archive's manifest.
func (a *app) readManifest(name string) (err error) {
	archive, err := zip.OpenReader(name)
	if err != nil {
		return problem.New(problem.Internal, "the archive was cut off: %w", err)
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	file, err := archive.Open("manifest.json")
	if err != nil {
		return problem.New(problem.Internal, "the archive was cut off: %w", err)
	}
	var m dossier.Manifest
	if err := json.NewDecoder(file).Decode(&m); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	a.note("%s: %d files of %d devices\n", name, len(m.Files), m.Devices)
	if !m.Complete {
		return problem.New(problem.NotReady, "not every plane answered, so that something is missing in %s: %s", name, strings.Join(m.Away, "; "))
	}
	return nil
}

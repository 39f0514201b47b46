package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
)

func (a *app) audit() *cobra.Command {
	return a.group("audit", "See who did what, and prove that nobody changed it since", "Each change is one entry of a log that is a Merkle tree: its root is signed, and kept by\nwitnesses elsewhere. What was edited, removed, put elsewhere or cut off is found, also\nby somebody who has nothing but an export.",
		a.auditList(), a.auditShow(), a.auditExport(), a.auditVerify(), a.auditCheckpoint(), a.auditProve(), a.auditErase())
}

func (a *app) auditList() *cobra.Command {
	var f audit.Filter
	var from, to string
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List entries of the audit log, newest first; that you looked is recorded", Args: cobra.NoArgs,
		Long:    "List entries of the audit log, newest first. A filter that ends in * is one that they\nbegin with. That you looked is an entry itself.",
		Example: "  slipway audit list --object device/sensor-1\n  slipway audit list --grant grant-12\n  slipway audit list --action 'promotion.*' --environment production --from 2026-11-01T00:00:00Z",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) (err error) {
			if f.From, err = moment("from", from); err != nil {
				return err
			}
			if f.To, err = moment("to", to); err != nil {
				return err
			}
			entries, next, err := c.AuditEntries(ctx, f)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, entries, next)
			}
			rows := make([][]string, len(entries))
			for i, e := range entries {
				rows[i] = []string{strconv.FormatInt(e.Sequence, 10), a.when(&e.At), e.Actor, e.Action, e.Object, e.Grant, e.Outcome, detailOf(e)}
			}
			return a.table([]string{"ENTRY", "WHEN", "WHO", "ACTION", "OBJECT", "GRANT", "OUTCOME", "DETAIL"}, rows)
		}),
	})
	flags := cmd.Flags()
	flags.Int64Var(&f.Before, "before", 0, "only entries older than this one")
	flags.IntVar(&f.Limit, "limit", 50, "at most so many, up to 1000")
	flags.StringVar(&f.Actor, "actor", "", "only what this one did")
	flags.StringVar(&f.Action, "action", "", "only this action, such as twin.patch")
	flags.StringVar(&f.Object, "object", "", "only what was done to this, such as device/sensor-1")
	flags.StringVar(&f.Environment, "environment", "", "only what was done in this environment")
	flags.StringVar(&f.Grant, "grant", "", "only what this grant allowed")
	flags.StringVar(&f.Request, "request", "", "only what this request caused: X-Request-Id of its answer")
	flags.StringVar(&from, "from", "", "not before this time, such as 2026-11-28T09:00:00Z")
	flags.StringVar(&to, "to", "", "before this time")
	a.complete(cmd, "environment", environments)
	return cmd
}

// moment reads a time of a flag.
func moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, usage("--%s reads like 2026-11-28T09:00:00Z, not %q", flag, text)
	}
	return at, nil
}

// detailOf is what there is to say of an entry beside its columns.
func detailOf(e audit.Entry) string {
	text := e.Detail
	if e.Reason != "" {
		text = e.Reason + " " + text
	}
	if e.Consequence {
		text = "(follows) " + text
	}
	return text
}

func sequenceOf(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, usage("an entry has a number from 1 on, not %q", text)
	}
	return n, nil
}

func (a *app) auditShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show ENTRY", Short: "Show an entry, and check here that it is in the signed log", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			sequence, err := sequenceOf(args[0])
			if err != nil {
				return err
			}
			p, err := c.AuditEntry(ctx, sequence)
			if err != nil {
				return err
			}
			if _, err := audit.VerifyProof(p.Proof, ""); err != nil {
				return err
			}
			if a.asJSON {
				return a.json(p)
			}
			e := p.Entry
			rows := [][2]string{
				{"entry", strconv.FormatInt(e.Sequence, 10)}, {"at", e.At.Format(time.RFC3339Nano)}, {"actor", e.Actor}, {"person", e.Person}, {"token", e.Token}, {"grant", e.Grant},
				{"action", e.Action}, {"object", e.Object}, {"environment", e.Environment}, {"reason", e.Reason}, {"outcome", e.Outcome}, {"detail", e.Detail},
				{"before", e.Before}, {"after", e.After}, {"request", e.Request}, {"signed", "in a log of " + strconv.FormatInt(p.Proof.Checkpoint.Size, 10) + " entries; verified"},
			}
			for _, m := range p.Recorded {
				rows = append(rows, [2]string{"recorded", m.Session + ", line " + strconv.Itoa(m.Number)})
			}
			for _, row := range rows {
				if row[1] == "" {
					continue
				}
				if err := a.print("%s\t%s\n", row[0], clean(row[1])); err != nil {
					return err
				}
			}
			return nil
		}),
	})
}

func (a *app) auditExport() *cobra.Command {
	return &cobra.Command{
		Use: "export", Short: "Write the whole log to standard output; that you did is recorded", Args: cobra.NoArgs,
		Example: "  slipway audit export > audit.jsonl\n  slipway audit verify audit.jsonl",
		RunE:    a.call(func(ctx context.Context, c *client.Client, _ []string) error { return c.ExportAudit(ctx, a.out) }),
	}
}

func (a *app) auditVerify() *cobra.Command {
	var key string
	var older []string
	cmd := a.read(&cobra.Command{
		Use: "verify [FILE]", Short: "Verify the log, an export of it, or the proof of an entry",
		Long: "Verify that nothing in the log was edited, removed, put elsewhere or cut off, and name the\n" +
			"entry where it was. FILE is an export, or what `slipway audit prove` wrote, and needs no\n" +
			"installation; without it the log is fetched.\n\n" +
			"What was verified is remembered in ~/.config/slipway/audit: the key from the first time on,\n" +
			"and the newest checkpoint, from which the log has to go on. A smaller one is refused.\n\n" +
			"Exit codes: 0 verified; 3 something is wrong with the log.",
		Example: "  slipway audit verify\n  slipway audit verify audit.jsonl --key \"$(cat audit.pub)\" --checkpoint last-month.txt",
		Args:    cobra.MaximumNArgs(1),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			trust, err := trustOf(key, older)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return a.verifyLive(cmd.Context(), trust)
			}
			return a.verifyFile(args[0], trust)
		}),
	})
	cmd.Flags().StringVar(&key, "key", "", "public key of the log, or a file that holds it; default the one that was remembered, or else the export's own")
	cmd.Flags().StringArrayVar(&older, "checkpoint", nil, "file with checkpoints that were seen before, such as a witness keeps; the log has to go on from each")
	return cmd
}

func trustOf(key string, files []string) (audit.Trust, error) {
	trust := audit.Trust{Key: key}
	if text, err := os.ReadFile(key); err == nil && key != "" {
		trust.Key = strings.TrimSpace(string(text))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return trust, err
		}
		trust.Checkpoints = append(trust.Checkpoints, audit.SplitCheckpoints(text)...)
	}
	return trust, nil
}

// verifyLive fetches the log while it is verified.
func (a *app) verifyLive(ctx context.Context, trust audit.Trust) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	from, to := io.Pipe()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { to.CloseWithError(c.ExportAudit(ctx, to)) }()
	return a.verify(from, trust)
}

// maxProof bounds a proof: its hashes are as many as the tree has levels.
const maxProof = 1 << 20

func (a *app) verifyFile(name string, trust audit.Trust) (err error) {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	head, err := io.ReadAll(io.LimitReader(file, maxProof))
	if err != nil {
		return err
	}
	if audit.IsProof(head) {
		return a.verifyProof(head, trust)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return a.verify(file, trust)
}

func (a *app) verifyProof(text []byte, trust audit.Trust) error {
	var p audit.Proof
	if err := json.Unmarshal(text, &p); err != nil {
		return problem.New(problem.Invalid, "the proof cannot be read: %w", err)
	}
	e, err := audit.VerifyProof(p, trust.Key)
	if err != nil {
		a.note("%s\n", clean(problem.Of(err).Message))
		return answer(exitNo)
	}
	if a.asJSON {
		return a.json(e)
	}
	return a.print("entry %d is in the log of %d entries that was signed: %s, %s %s, %s\n", e.Sequence, p.Checkpoint.Size, clean(e.Actor), e.Action, clean(e.Object), e.Outcome)
}

// verify verifies an export against what is remembered too, and remembers it.
func (a *app) verify(export io.Reader, trust audit.Trust) error {
	began := time.Now()
	seen := a.seenLogs()
	trust.Remembered = seen.recall
	r, err := audit.Verify(export, trust)
	if err != nil {
		return err
	}
	took := time.Since(began)
	if r.Verified() && r.Entries > 0 {
		if err := seen.remember(r); err != nil {
			a.note("cannot remember the checkpoint: %v\n", err)
		}
	}
	if a.asJSON {
		if err := a.json(r); err != nil {
			return err
		}
	} else if err := a.showReport(r, took); err != nil {
		return err
	}
	if !r.Verified() {
		return answer(exitNo)
	}
	return nil
}

func (a *app) showReport(r audit.Report, took time.Duration) error {
	if !r.KeyTrusted {
		a.note("the key is the export's own; give the log's with --key\n")
	}
	for _, f := range r.Findings {
		if err := a.print("entry %d\t%s\n", f.Sequence, clean(f.Problem)); err != nil {
			return err
		}
	}
	if !r.Verified() {
		return a.print("%d entries of %s: NOT verified, %d findings\n", r.Entries, clean(r.Origin), len(r.Findings))
	}
	return a.print("%d entries of %s verified in %s: %d checkpoints, root %s, %d with erased parts\n", r.Entries, clean(r.Origin), took.Round(time.Millisecond), r.Checkpoints, r.Root, r.Erased)
}

func (a *app) auditCheckpoint() *cobra.Command {
	var all, keyOnly bool
	cmd := a.read(&cobra.Command{
		Use: "checkpoint", Short: "Sign the log as it is and print the checkpoint, to be kept elsewhere", Args: cobra.NoArgs,
		Long:    "Sign the log as it is, give that to the witnesses, and print it. Who keeps it can show later\nthat the log was changed since: slipway audit verify --checkpoint FILE.",
		Example: "  slipway audit checkpoint > checkpoint.txt\n  slipway audit checkpoint --public-key > audit.pub\n  slipway audit checkpoint --list",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			if all {
				return a.listCheckpoints(ctx, c)
			}
			signed, err := c.AuditCheckpoint(ctx, !keyOnly)
			if err != nil {
				return err
			}
			switch {
			case a.asJSON:
				return a.json(signed)
			case keyOnly:
				return a.print("%s\n", signed.Key)
			}
			for _, w := range signed.Witnesses {
				if w.Problem != "" {
					a.note("witness %s: %s\n", clean(w.Name), clean(w.Problem))
				}
			}
			return a.print("%s", signed.Note)
		}),
	})
	cmd.Flags().BoolVar(&all, "list", false, "list those that were signed instead")
	cmd.Flags().BoolVar(&keyOnly, "public-key", false, "print the log's public key instead")
	return cmd
}

func (a *app) listCheckpoints(ctx context.Context, c *client.Client) error {
	all, err := c.AuditCheckpoints(ctx, 1000)
	if err != nil {
		return err
	}
	if a.asJSON {
		return jsonList(a, all, "")
	}
	rows := make([][]string, len(all))
	for i, one := range all {
		rows[i] = []string{strconv.FormatInt(one.Size, 10), a.when(&one.At), one.Root}
	}
	return a.table([]string{"ENTRIES", "SIGNED", "ROOT"}, rows)
}

func (a *app) auditProve() *cobra.Command {
	var from int64
	cmd := &cobra.Command{
		Use: "prove [ENTRY]", Short: "Write the proof that an entry is in the signed log, or that the log goes on from an earlier one", Args: cobra.MaximumNArgs(1),
		Example: "  slipway audit prove 1207 > proof.json\n  slipway audit verify proof.json\n  slipway audit prove --from 1000",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if (len(args) == 1) == (from > 0) {
				return usage("name an entry, or an earlier size with --from")
			}
			if from > 0 {
				proof, err := c.AuditContinuation(ctx, from)
				if err != nil {
					return err
				}
				if err := audit.VerifyContinuation(proof, proof.To.Key); err != nil {
					return err
				}
				return a.json(proof)
			}
			sequence, err := sequenceOf(args[0])
			if err != nil {
				return err
			}
			p, err := c.AuditEntry(ctx, sequence)
			if err != nil {
				return err
			}
			return a.json(p.Proof)
		}),
	}
	cmd.Flags().Int64Var(&from, "from", 0, "entries of an earlier checkpoint")
	return cmd
}

func (a *app) auditErase() *cobra.Command {
	var e audit.Erasure
	var yes bool
	cmd := &cobra.Command{
		Use: "erase", Short: "Forget who somebody was, or what an object was; all proofs hold as before", Args: cobra.NoArgs,
		Long:    "Forget a name, or an object with the reasons and details about it, in every entry there is.\nIt cannot be undone. The entries stay, and every proof and export verifies as before.\nExports and backups that were made before still have it.",
		Example: "  slipway audit erase --object device/sensor-1 --reason \"request 1207 of its owner\"\n  slipway audit erase --actor anna --reason \"left the company\"",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			if err := a.confirm(yes, "Forget %s for good", e.Actor+e.Object); err != nil {
				return err
			}
			n, err := c.EraseAudit(ctx, e)
			if err != nil {
				return err
			}
			return a.print("forgotten in %d entries\n", n)
		}),
	}
	cmd.Flags().StringVar(&e.Actor, "actor", "", "whose name to forget")
	cmd.Flags().StringVar(&e.Object, "object", "", "what to forget, such as device/sensor-1, and what is below it")
	because(cmd, &e.Reason)
	yesFlag(cmd, &yes)
	return cmd
}

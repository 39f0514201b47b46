package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/problem"
)

// readBounded reads a file that is sent whole, if it is not too large for that.
func readBounded(file string, most int64) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > most {
		return nil, problem.New(problem.TooLarge, "%s: at most %d bytes are taken, not %d", file, most, info.Size())
	}
	return os.ReadFile(file)
}

// testResults is `slipway test-results`.
func (a *app) testResults() *cobra.Command {
	group := a.group("test-results", "Say what tests made of a release, for gates to judge by", `  slipway test-results upload v1.4.0 --suite unit --environment test build/*.xml
  slipway test-results list v1.4.0`, a.testResultsUpload(), a.testResultsList())
	group.Aliases = []string{"test-result"}
	return group
}

func (a *app) testResultsUpload() *cobra.Command {
	var environment, suite string
	cmd := a.read(&cobra.Command{
		Use: "upload RELEASE FILE…", Short: "Upload what a suite of tests wrote, as JUnit's XML or JSON of the Common Test Report Format", Args: cobra.MinimumNArgs(2),
		Long: "Upload what a suite of tests wrote, as JUnit's XML or JSON of the Common Test Report Format.\n\n" +
			"The files are one run of the suite; it counts in place of the runs before. The exit\ncode says whether the upload went well, not whether the tests did.",
		Example: "  slipway test-results upload v1.4.0 --suite unit --environment test build/*.xml",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			files := make([]gate.Report, len(args)-1)
			for i, name := range args[1:] {
				text, err := readBounded(name, gate.MaxReports)
				if err != nil {
					return err
				}
				files[i] = gate.Report{Name: filepath.Base(name), Content: string(text)}
			}
			t, err := c.UploadTests(ctx, args[0], environment, suite, files)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(t)
			}
			return a.print("%s of %s: %d tests ran, %d failed, %d were skipped\n", t.Suite, t.Release, t.Summary.Tests, t.Summary.Failed, t.Summary.Skipped)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "where the tests ran")
	cmd.Flags().StringVar(&suite, "suite", "unit", "unit, integration, performance or another name")
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) testResultsList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list RELEASE", Short: "List the test results of a release, newest first", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.TestResults(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, t := range all {
				rows[i] = []string{t.Suite, t.Environment, strconv.Itoa(t.Summary.Tests), strconv.Itoa(t.Summary.Failed), strconv.Itoa(t.Summary.Skipped), t.UploadedBy, a.when(&t.UploadedAt)}
			}
			return a.table([]string{"SUITE", "ENVIRONMENT", "TESTS", "FAILED", "SKIPPED", "BY", "UPLOADED"}, rows)
		}),
	})
}

// vulnerability is `slipway vulnerability`.
func (a *app) vulnerability() *cobra.Command {
	upload := &cobra.Command{
		Use: "upload FILE…", Short: "Add known vulnerabilities, in the OSV format, in place of what was known of the same ids", Args: cobra.MinimumNArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			for _, name := range args {
				text, err := readBounded(name, gate.MaxVulnerabilities)
				if err != nil {
					return err
				}
				n, err := c.UploadVulnerabilities(ctx, text)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				if err := a.print("%s: %d vulnerabilities\n", name, n); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	group := a.group("vulnerability", "The known vulnerabilities that releases' bills of materials are held against", `  slipway vulnerability upload osv.json
  slipway vulnerability list`, upload, a.vulnerabilityList())
	group.Aliases = []string{"vulnerabilities"}
	return group
}

func (a *app) vulnerabilityList() *cobra.Command {
	var after string
	var limit int
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List known vulnerabilities", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			page, err := c.Vulnerabilities(ctx, after, limit)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, page.Items, page.Next)
			}
			rows := make([][]string, len(page.Items))
			for i, v := range page.Items {
				rows[i] = []string{v.ID, v.Severity, a.when(&v.KnownAt), v.Summary}
			}
			return a.table([]string{"ID", "SEVERITY", "KNOWN", "SUMMARY"}, rows)
		}),
	})
	cmd.Flags().StringVar(&after, "after", "", "the next page, as the one before says")
	cmd.Flags().IntVar(&limit, "limit", 0, "at most so many, up to 1000; default 100")
	return cmd
}

// gate is `slipway gate`.
func (a *app) gate() *cobra.Command {
	return a.group("gate", "What must be true before a release enters an environment", "", &cobra.Command{
		Use: "key", Short: "Print the public key with which webhooks check that it is Slipway who asks", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			key, err := c.GateKey(ctx)
			if err != nil {
				return err
			}
			return a.print("%s\n", key)
		}),
	})
}

// freeze is `slipway freeze`.
func (a *app) freeze() *cobra.Command {
	list := a.read(&cobra.Command{
		Use: "list", Short: "Show when each environment takes releases, and what stops them", Args: cobra.NoArgs,
		Example: "  slipway freeze list\n  slipway freeze list --json | jq '.items[].windows'",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Freezes(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, one := range all {
				state := "closed"
				if one.Open {
					state = "open"
				}
				next := "-"
				if one.Next != nil {
					next = one.Next.UTC().Format(time.RFC3339)
				}
				rows[i] = []string{one.Environment, state, next, one.Reason}
			}
			return a.table([]string{"ENVIRONMENT", "STATE", "UNTIL", "REASON"}, rows)
		}),
	})
	group := a.group("freeze", "The calendar of when environments take releases", "", list)
	group.Aliases = []string{"freezes"}
	return group
}

// halt is `slipway halt`.
func (a *app) halt() *cobra.Command {
	var h client.NewHalt
	var life time.Duration
	var all bool
	cmd := a.read(&cobra.Command{
		Use: "halt", Short: "Stop releases at once, in one environment or in all", Args: cobra.NoArgs,
		Example: "  slipway halt --environment production --reason 'an incident' --expires 4h --exempt rollback\n" +
			"  slipway halt --all --reason 'the data centre moves'\n  slipway halt list\n  slipway halt lift h-abc --reason 'it is over'",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			if all == (h.Environment != "") {
				return usage("name the environment, or say --all")
			}
			h.ExpiresInSeconds = int64(seconds(life))
			on, err := c.Halt(ctx, h)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(on)
			}
			return a.print("halt %s is on; `slipway halt lift %s --reason …` ends it\n", on.ID, on.ID)
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&h.Environment, "environment", "", "the environment")
	flags.BoolVar(&all, "all", false, "every environment")
	flags.StringVar(&h.Reason, "reason", "", "why, as those read it whom it stops")
	flags.StringSliceVar(&h.Exempt, "exempt", nil, "what it does not stop: security, rollback")
	flags.DurationVar(&life, "expires", 0, "how long it lasts, such as 4h; default until it is lifted")
	a.complete(cmd, "environment", environments)
	cmd.AddCommand(a.haltList(), a.haltLift())
	return cmd
}

func (a *app) haltList() *cobra.Command {
	var ended bool
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List what stops releases by hand", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Halts(ctx, ended)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, h := range all {
				where := h.Environment
				if where == "" {
					where = "all"
				}
				until := h.Until
				if h.LiftedAt != nil {
					until = h.LiftedAt
				}
				rows[i] = []string{h.ID, where, h.Actor, a.when(&h.At), a.when(until), strings.Join(h.Exempt, ","), h.Reason}
			}
			return a.table([]string{"HALT", "ENVIRONMENT", "BY", "SINCE", "UNTIL", "EXEMPT", "REASON"}, rows)
		}),
	})
	cmd.Flags().BoolVar(&ended, "ended", false, "those that have ended too")
	return cmd
}

func (a *app) haltLift() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "lift HALT", Short: "End a halt", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if _, err := c.LiftHalt(ctx, args[0], reason); err != nil {
				return err
			}
			return a.print("halt %s is lifted\n", args[0])
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

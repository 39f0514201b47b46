// Package cli is every command of slipway: flags in, one call to the API or
// one process to run, a table or JSON out. A file holds a noun; this one holds
// the root and the shape all commands share.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
)

// app is what all commands share: streams, clock, and which installation is
// meant. It opens no connection by itself.
type app struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	inTTY   bool // a person can be asked
	outTTY  bool // tables and relative times instead of plain rows
	errTTY  bool // progress may be drawn
	now     func() time.Time
	env     func(string) string
	flags   choice // of the installation, by flags
	started bool   // past arguments and flags: errors are no longer about usage
	asJSON  bool
}

// Run runs one command and returns its exit code.
func Run(ctx context.Context, args []string, in io.Reader, out, err io.Writer) int {
	a := &app{in: in, out: out, err: err, inTTY: terminal(in), outTTY: terminal(out), errTTY: terminal(err), now: time.Now, env: os.Getenv}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(err)
	used, failure := root.ExecuteContextC(ctx)
	return a.conclude(ctx, used, failure)
}

func terminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

const about = `Slipway takes an IoT solution from test to production: environments made of
stamps, devices that find their place by themselves and move from test to
production without being touched.

Which installation a command speaks to is said, first one found, by flags, by
SLIPWAY_URL, SLIPWAY_TOKEN and SLIPWAY_CA, by ~/.config/slipway/config.yaml
(url, token or tokenFile, ca), or by the one that ` + "`slipway up`" + ` runs on this machine.

Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 the answer is no
(differences found, a check failed), 4 not found, 5 conflict or stale,
6 not reachable or not ready, 7 not allowed, 8 not done in time, 130 interrupted.`

// root lists every command there is.
func (a *app) root() *cobra.Command {
	root := a.group("slipway", "From test to production: an IoT installation and the tool for it", about,
		a.up(), a.serve(), a.config(), a.apply(), a.diff(), a.export(), a.importing(),
		a.device(), a.query(), a.move(), a.upload(), a.consume(), a.job(), a.configuration(), a.provisioning(),
		a.tenant(), a.blueprint(), a.environment(), a.secret(), a.stamp(), a.enrollment(), a.enrollmentGroup(), a.route(),
		a.release(), a.artifact(), a.signing(),
		a.promotion(), a.rollout(), a.rollback(), a.update(),
		a.backup(), a.restore(), a.drill(), a.rehearsal(),
		a.readiness(), a.calendar(), a.insight(),
		a.retention(), a.legalHold(), a.erasure(), a.dossier(),
		a.drift(), a.parity(), a.flag(), a.gate(), a.testResults(), a.vulnerability(), a.freeze(), a.halt(),
		a.metrics(), a.logs(), a.trace(), a.incident(), a.timeline(), a.alert(), a.slo(), a.alertRule(), a.receiver(), a.onCall(),
		a.grant(), a.session(), a.accessReview(),
		a.peer(), a.simulate(), a.lint(), a.status(), a.capacity(), a.token(), a.account(), a.role(), a.access(), a.whoami(), a.audit(), a.keys(), a.doctor(), a.version(),
	)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w", err) })
	flags := root.PersistentFlags()
	flags.StringVar(&a.flags.URL, "url", "", "API of the installation, such as https://slipway.example.com:8443 (SLIPWAY_URL)")
	flags.StringVar(&a.flags.TokenFile, "token-file", "", "file that holds the API token (SLIPWAY_TOKEN holds the token itself)")
	flags.StringVar(&a.flags.CA, "ca", "", "PEM file of the authority to trust besides the system's (SLIPWAY_CA)")
	flags.StringVar(&a.flags.Data, "data", "", "data directory of the installation on this machine (SLIPWAY_DATA; default "+defaultData+")")
	return root
}

// group is a command that only holds others.
func (a *app) group(use, short, long string, inner ...*cobra.Command) *cobra.Command {
	group := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.ArbitraryArgs}
	group.SuggestionsMinimumDistance = 2
	group.AddCommand(inner...)
	group.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var like string
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			like = fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
		}
		return usage("there is no command %q under %q%s", args[0], cmd.CommandPath(), like)
	}
	return group
}

// run makes what a command does out of a function; from there on errors are
// not about usage any more, unless they say so.
func (a *app) run(do func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.started = true
		return do(cmd, args)
	}
}

// call is run for commands that speak to the API.
func (a *app) call(do func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return a.run(func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		return do(cmd.Context(), c, args)
	})
}

// read gives a command the flag that every read has.
func (a *app) read(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&a.asJSON, "json", false, "write JSON")
	return cmd
}

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/readiness"
)

func (a *app) readinessCompliance() *cobra.Command {
	var environment string
	cmd := a.read(&cobra.Command{
		Use: "compliance [FRAMEWORK]", Short: "Tell how an environment stands with what a framework asks for; without FRAMEWORK, list them", Args: cobra.MaximumNArgs(1),
		Long:    "Tell how an environment stands with what a framework asks for: each control is met, not met,\nor not covered here, by the evidence of the checks that answer it.\n\nExit codes: 0 every control that is covered is met, 3 one is not.",
		Example: "  slipway readiness compliance\n  slipway readiness compliance soc2 --environment production",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if len(args) == 0 {
				return a.listFrameworks(ctx, c)
			}
			if environment == "" {
				return usage("say of which environment: --environment")
			}
			found, err := c.AssessFramework(ctx, environment, args[0])
			if err != nil {
				return err
			}
			return a.showAssessment(found)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "whose evidence")
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) listFrameworks(ctx context.Context, c *client.Client) error {
	all, err := c.Frameworks(ctx)
	if err != nil {
		return err
	}
	if a.asJSON {
		return jsonList(a, all, "")
	}
	rows := make([][]string, len(all))
	for i, f := range all {
		covered := 0
		for _, control := range f.Controls {
			if len(control.Checks) > 0 {
				covered++
			}
		}
		rows[i] = []string{f.ID, f.Name, f.Of, fmt.Sprintf("%d of %d", covered, len(f.Controls))}
	}
	return a.table([]string{"FRAMEWORK", "NAME", "OF", "COVERED"}, rows)
}

func (a *app) showAssessment(found readiness.Assessment) (err error) {
	if a.asJSON {
		err = a.json(found)
	} else {
		rows := make([][]string, len(found.Controls))
		for i, control := range found.Controls {
			var by []string
			for _, r := range control.Results {
				by = append(by, r.ID+" "+readiness.Word(r.State))
			}
			rows[i] = []string{control.ID, readiness.Word(control.Standing), control.Asks, strings.Join(by, ", ")}
		}
		err = a.table([]string{"CONTROL", "STANDING", "ASKS FOR", "CHECKS"}, rows)
	}
	if err == nil && found.Counts[readiness.NotMet] > 0 {
		return answer(exitNo)
	}
	return err
}

func (a *app) readinessReport() *cobra.Command {
	var framework, output string
	cmd := a.read(&cobra.Command{
		Use: "report ENVIRONMENT", Short: "Write a signed report of how ready an environment is, to be handed to others", Args: cobra.ExactArgs(1),
		Long:    "Write a signed report: the verdict, each check with its evidence, what frameworks ask for, the\nscore of the last quarter and what will run out. It is a page of HTML that needs nothing else\nand can be printed, or JSON with --json.",
		Example: "  slipway readiness report production --output readiness.html\n  slipway readiness report production --framework cra --json --output readiness.json",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			return a.written(output, func(to io.Writer) error {
				if !a.asJSON {
					return c.ReadinessPage(ctx, args[0], framework, to)
				}
				signed, err := c.ReadinessReport(ctx, args[0], framework)
				if err != nil {
					return err
				}
				return json.NewEncoder(to).Encode(signed)
			})
		}),
	})
	cmd.Flags().StringVar(&framework, "framework", "", "only what this one asks for, such as soc2; default all")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; default the standard output")
	return cmd
}

// written has something written to a file, which is there whole or not at all; or
// to the standard output.
func (a *app) written(file string, write func(io.Writer) error) error {
	if file == "" {
		return write(a.out)
	}
	to, err := os.Create(file + ".part")
	if err != nil {
		return err
	}
	err = write(to)
	if failure := to.Close(); err == nil {
		err = failure
	}
	if err == nil {
		return os.Rename(to.Name(), file)
	}
	if failure := os.Remove(to.Name()); failure != nil {
		a.note("%s is left: %s\n", to.Name(), failure)
	}
	return err
}

func (a *app) readinessVerify() *cobra.Command {
	var keys []string
	cmd := a.read(&cobra.Command{
		Use: "verify FILE --key KEY", Short: "Check that a report is exactly what an installation has signed; needs no installation", Args: cobra.ExactArgs(1),
		Long:    "Check that a report, a page or JSON, is exactly what an installation has signed. KEY is what\n`slipway backup key` showed there; get it from somebody you trust, not with the report.\n\nExit codes: 0 it is, 5 it was changed or signed by another.",
		Example: "  slipway readiness verify readiness.html --key slipway-signer:dGhlIGtleSBvZiBhbiBpbnN0YWxsYXRpb24gMzJieXRl",
		RunE: a.run(func(_ *cobra.Command, args []string) error {
			trusted, err := readiness.ParseKeys(keys)
			if err != nil {
				return err
			}
			document, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			report, err := readiness.Verify(document, trusted)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(report)
			}
			return a.print("as it was signed\t%s\t%s\t%s\tscore %d\n", report.CreatedAt.Format(time.RFC3339), clean(report.Verdict.Environment), clean(report.Verdict.Summary), report.Verdict.Score)
		}),
	})
	cmd.Flags().StringSliceVar(&keys, "key", nil, "a key that may have signed; may be repeated")
	required(cmd, "key")
	return cmd
}

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// noun is a kind of resource as a group of commands.
type noun struct {
	kind    string
	use     string // the command
	words   string // in sentences
	header  []string
	row     func(a *app, s client.Stored) ([]string, error)
	secrets bool // it has keys that are shown only on request
	gone    string
}

func (a *app) environment() *cobra.Command {
	group := a.nounCommands(noun{
		kind: resource.KindEnvironment, use: "environment", words: "environment", gone: "an environment must have no stamps",
		header: []string{"NAME", "DISPLAY NAME", "PROMOTES FROM", "STAMPS", "DEVICES", "WAITING"},
		row: func(_ *app, s client.Stored) ([]string, error) {
			spec, status, err := parts[resource.EnvironmentSpec, resource.EnvironmentStatus](s)
			return []string{s.Metadata.Name, spec.DisplayName, spec.PromotesFrom, strings.Join(status.Stamps, ","), strconv.Itoa(status.Devices), strconv.Itoa(status.Waiting)}, err
		},
	})
	group.AddCommand(a.environmentCreate(), a.environmentExplain(), a.environmentDiff())
	return group
}

func (a *app) stamp() *cobra.Command {
	group := a.nounCommands(noun{
		kind: resource.KindStamp, use: "stamp", words: "stamp", gone: "a stamp must be closed and empty",
		header: []string{"NAME", "ENVIRONMENT", "REGION", "STATE", "DEVICES", "CAPACITY", "CONNECTED", "MESSAGES/S", "HOST", "SEEN"},
		row: func(a *app, s client.Stored) ([]string, error) {
			spec, status, err := parts[resource.StampSpec, resource.StampStatus](s)
			return []string{
				s.Metadata.Name, spec.Environment, spec.Region, status.State, strconv.Itoa(status.Assigned), strconv.Itoa(spec.Capacity),
				strconv.FormatInt(status.Connected, 10), fmt.Sprintf("%.1f", status.Rate), status.Host, a.when(status.SeenAt),
			}, err
		},
	})
	group.AddCommand(a.policy(), a.stampCreate(), a.stampToken(), a.stampDrain(), a.stampUpdateGateway())
	return group
}

func (a *app) enrollment() *cobra.Command {
	return a.nounCommands(noun{
		kind: resource.KindEnrollment, use: "enrollment", words: "enrolment", secrets: true, gone: "its device stays until it is moved or registers again",
		header: enrollmentHeader, row: enrollmentRow,
	})
}

func (a *app) enrollmentGroup() *cobra.Command {
	return a.nounCommands(noun{
		kind: resource.KindEnrollmentGroup, use: "enrollment-group", words: "enrolment group", secrets: true, gone: "its devices stay, but cannot register again",
		header: enrollmentHeader, row: enrollmentRow,
	})
}

var enrollmentHeader = []string{"NAME", "ENVIRONMENT", "ATTESTATION", "ALLOCATION", "REPROVISION", "ENABLED", "DEVICES"}

func enrollmentRow(_ *app, s client.Stored) ([]string, error) {
	spec, status, err := parts[link.EnrollmentSpec, resource.EnrollmentStatus](s)
	attestation, allocation := "x509", ""
	if spec.Attestation.TPM != nil {
		attestation = "tpm"
	}
	if spec.Attestation.SymmetricKey != nil {
		attestation = "symmetricKey"
	}
	if spec.Allocation != nil {
		allocation = spec.Allocation.Policy
	}
	return []string{s.Metadata.Name, spec.Environment, attestation, allocation, spec.Reprovision, yesNo(!spec.Disabled), strconv.Itoa(status.Devices)}, err
}

// parts reads a resource's spec and status in their kind's form.
func parts[Spec, Status any](s client.Stored) (spec Spec, status Status, err error) {
	if spec, err = resource.SpecOf[Spec](s.Resource); err != nil || len(s.Status) == 0 {
		return spec, status, err
	}
	return spec, status, json.Unmarshal(s.Status, &status)
}

func (a *app) nounCommands(n noun) *cobra.Command {
	group := a.group(n.use, "List, show and delete "+n.words+"s; `slipway apply` creates and changes them", "", a.nounList(n), a.nounShow(n), a.nounDelete(n))
	group.Aliases = []string{n.use + "s"}
	return group
}

func (a *app) nounList(n noun) *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List the " + n.words + "s", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Resources(ctx, n.kind, false)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, s := range all {
				if rows[i], err = n.row(a, s); err != nil {
					return err
				}
			}
			return a.table(n.header, rows)
		}),
	})
}

func (a *app) nounShow(n noun) *cobra.Command {
	var secrets bool
	cmd := a.read(&cobra.Command{
		Use: "show NAME", Short: "Show one " + n.words, Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames(n.kind),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			s, err := c.Resource(ctx, n.kind, args[0], secrets)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(s)
			}
			text, err := yamlOf(s)
			if err != nil {
				return err
			}
			return a.print("%s", text)
		}),
	})
	if n.secrets {
		cmd.Flags().BoolVar(&secrets, "secrets", false, "show symmetric keys too; the audit log records it")
	}
	return cmd
}

func (a *app) nounDelete(n noun) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete one " + n.words + ": " + n.gone, Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames(n.kind),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := a.confirm(yes, "Delete the %s %s", n.words, args[0]); err != nil {
				return err
			}
			if err := c.Delete(ctx, n.kind, args[0]); err != nil {
				return err
			}
			return a.print("%s/%s deleted\n", n.use, args[0])
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

func yesFlag(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask")
}

// completeNames offers the names of a kind to the shell.
func (a *app) completeNames(kind string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.offer(cmd.Context(), func(ctx context.Context, c *client.Client, _ string) ([]string, error) {
			return resourceNames(ctx, c, kind)
		}, typed)
	}
}

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/configuration"
	"github.com/slipway/slipway/internal/problem"
)

// completeConfigurations offers the names of configurations to the shell.
func (a *app) completeConfigurations(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.offer(cmd.Context(), func(ctx context.Context, c *client.Client, _ string) ([]string, error) {
		all, err := c.DeclaredConfigurations(ctx)
		names := make([]string, len(all))
		for i, l := range all {
			names[i] = l.Name
		}
		return names, err
	}, typed)
}

// reasonFlag gives a command the flag that says why.
func reasonFlag(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "reason", "", "why, for the history and the audit log (required)")
}

func inForce(l configuration.Listing) string {
	all := make([]string, len(l.Standings))
	for i, s := range l.Standings {
		all[i] = fmt.Sprintf("%s: %d", s.Environment, s.Number)
	}
	return strings.Join(all, "  ")
}

func (a *app) configurationDeclared() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "declared", Short: "List the configurations that are promoted, and which version is in force where", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.DeclaredConfigurations(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, l := range all {
				rows[i] = []string{l.Name, l.Owner, l.Target, strconv.FormatInt(l.Priority, 10), strconv.FormatInt(l.Newest, 10), inForce(l)}
			}
			return a.table([]string{"CONFIGURATION", "OWNER", "TARGET", "PRIORITY", "NEWEST", "IN FORCE"}, rows)
		}),
	})
}

func (a *app) configurationShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show NAME", Short: "Show a configuration: its schema, its versions with who wrote each and why, where each is in force", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeConfigurations,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			l, err := c.Configuration(ctx, args[0])
			if err != nil {
				return err
			}
			versions, err := c.ConfigurationVersions(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(struct {
					configuration.Listing
					Versions []configuration.Version `json:"versions"`
				}{l, versions})
			}
			if err := a.print("%s for %s\n  %s\n  owner: %s\n  schema: %s\n  in force: %s\n", l.Name, l.Target, orDash(l.Description), orDash(l.Owner), orDash(string(l.Schema)), orDash(inForce(l))); err != nil {
				return err
			}
			rows := make([][]string, len(versions))
			for i, v := range versions {
				rows[i] = []string{strconv.FormatInt(v.Number, 10), v.By, a.when(&v.At), v.Reason, string(v.Content)}
			}
			return a.table([]string{"VERSION", "BY", "AT", "REASON", "CONTENT"}, rows)
		}),
	})
}

func (a *app) configurationDefine() *cobra.Command {
	var d configuration.Definition
	var schema, reason string
	cmd := a.read(&cobra.Command{
		Use: "define NAME --reason TEXT", Short: "Say what a configuration may hold, and which devices it is for", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeConfigurations,
		Long:    "Say what a configuration may hold, by a JSON Schema, and which devices it is for. What is not\nsaid stays as it was. Versions that are in force must meet the schema.",
		Example: `  slipway configuration define pace --schema pace.schema.json --target "tags.site = 'north'" --owner ann --reason "how often devices report"`,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			before, err := c.Configuration(ctx, args[0])
			if err != nil && !problem.Is(err, problem.NotFound) {
				return err
			}
			d.Name = args[0]
			d.Owner, d.Description, d.Target = orBefore(d.Owner, before.Owner), orBefore(d.Description, before.Description), orBefore(d.Target, before.Target)
			if d.Priority < 0 {
				d.Priority = before.Priority
			}
			if d.Schema = before.Schema; schema != "" {
				text, err := a.readFile(schema)
				if err != nil {
					return err
				}
				if d.Schema = text; !json.Valid(text) {
					return usage("%s is no JSON", schema)
				}
			}
			stored, err := c.DefineConfiguration(ctx, d, reason)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(stored)
			}
			return a.print("configuration/%s defined\n", stored.Name)
		}),
	})
	cmd.Flags().StringVar(&schema, "schema", "", "file with a JSON Schema; - is stdin")
	cmd.Flags().StringVar(&d.Target, "target", "", "which devices, such as tags.site = 'north'; default all")
	cmd.Flags().Int64Var(&d.Priority, "priority", -1, "of several that target a device the one with the highest is in force")
	cmd.Flags().StringVar(&d.Owner, "owner", "", "who answers for it")
	cmd.Flags().StringVar(&d.Description, "description", "", "what it is for")
	reasonFlag(cmd, &reason)
	return cmd
}

func orBefore(said, before string) string {
	if said == "" {
		return before
	}
	return said
}

func (a *app) configurationWrite() *cobra.Command {
	var file, reason string
	cmd := a.read(&cobra.Command{
		Use: "write NAME -f FILE --reason TEXT", Short: "Add a version, held against the schema; it is in force nowhere yet", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeConfigurations,
		Example: `  echo '{"every":"30s"}' | slipway configuration write pace -f - --reason "twice as often"`,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if file == "" {
				return usage("name a file with -f; - reads stdin")
			}
			text, err := a.readFile(file)
			if err != nil {
				return err
			}
			if !json.Valid(text) {
				return usage("%s is no JSON", file)
			}
			v, err := c.WriteConfiguration(ctx, args[0], text, reason)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(v)
			}
			return a.print("configuration/%s has version %d\n", v.Name, v.Number)
		}),
	})
	cmd.Flags().StringVarP(&file, "file", "f", "", "JSON file with the desired properties; - is stdin (required)")
	reasonFlag(cmd, &reason)
	return cmd
}

func (a *app) configurationDiff() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "diff NAME FROM TO", Short: "Tell where two versions differ, by number or as environments have them; exits 3 if they do", Args: cobra.ExactArgs(3),
		Example: "  slipway configuration diff pace 3 4\n  slipway configuration diff pace production staging",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			l, err := c.Configuration(ctx, args[0])
			if err != nil {
				return err
			}
			var numbers [2]int64
			for i, text := range args[1:] {
				if numbers[i], err = strconv.ParseInt(text, 10, 64); err == nil {
					continue
				}
				numbers[i] = 0
				for _, s := range l.Standings {
					if s.Environment == text {
						numbers[i] = s.Number
					}
				}
			}
			all, err := c.DiffConfiguration(ctx, args[0], numbers[0], numbers[1])
			if err != nil {
				return err
			}
			if a.asJSON {
				err = jsonList(a, all, "")
			} else {
				rows := make([][]string, len(all))
				for i, d := range all {
					rows[i] = []string{d.Path, shortly(d.Declared), shortly(d.Live)}
				}
				err = a.table([]string{"AT", args[1], args[2]}, rows)
			}
			if err == nil && len(all) > 0 {
				err = answer(exitNo)
			}
			return err
		}),
	})
}

// configurationChanged tells what became of a change.
func (a *app) configurationChanged(change configuration.Change, err error) error {
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.json(change)
	}
	if err := a.print("configuration/%s version %d in %s: %s\n", change.Name, change.Number, change.Environment, change.State); err != nil {
		return err
	}
	for _, block := range change.Blocks {
		if err := a.print("  %s\n", clean(block)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) configurationPromote() *cobra.Command {
	ask := configuration.Ask{}
	cmd := a.read(&cobra.Command{
		Use: "promote NAME --to ENVIRONMENT --reason TEXT", Short: "Ask for a version to be in force in an environment", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeConfigurations,
		Long:    "Ask for a version to be in force in an environment: what the environment before has, or the\nnewest in the first. It is, once the environment's gates let it in; until then it waits.",
		Example: `  slipway configuration promote pace --to production --reason "it did well in staging"`,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if ask.Environment == "" || ask.Reason == "" {
				return usage("say --to ENVIRONMENT and --reason TEXT")
			}
			ask.Name = args[0]
			return a.configurationChanged(c.ChangeConfiguration(ctx, "promote", ask))
		}),
	})
	cmd.Flags().StringVar(&ask.Environment, "to", "", "where (required)")
	cmd.Flags().Int64Var(&ask.Number, "version", 0, "which; default what the environment before has, or the newest")
	reasonFlag(cmd, &ask.Reason)
	a.complete(cmd, "to", environments)
	return cmd
}

// configurationCommand is a command about a configuration of one environment.
func (a *app) configurationCommand(what, short, example string, versioned bool) *cobra.Command {
	ask := configuration.Ask{}
	cmd := a.read(&cobra.Command{
		Use: what + " NAME --environment ENVIRONMENT --reason TEXT", Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeConfigurations, Example: example,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if ask.Environment == "" || ask.Reason == "" {
				return usage("say --environment NAME and --reason TEXT")
			}
			ask.Name = args[0]
			return a.configurationChanged(c.ChangeConfiguration(ctx, what, ask))
		}),
	})
	cmd.Flags().StringVar(&ask.Environment, "environment", "", "where (required)")
	if versioned {
		cmd.Flags().Int64Var(&ask.Number, "to", 0, "which version; default the one before")
	}
	reasonFlag(cmd, &ask.Reason)
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) configurationRollback() *cobra.Command {
	return a.configurationCommand("rollback", "Go back to the version before, at once and without gates", `  slipway configuration rollback pace --environment production --reason "batteries"`, true)
}

func (a *app) configurationApprove() *cobra.Command {
	return a.configurationCommand("approve", "Agree to the change that waits; who asked for it cannot", `  slipway configuration approve pace --environment production --reason "looks right"`, false)
}

func (a *app) configurationWithdraw() *cobra.Command {
	return a.configurationCommand("withdraw", "End the change that waits", `  slipway configuration withdraw pace --environment production --reason "not yet"`, false)
}

func (a *app) configurationHistory() *cobra.Command {
	var environment string
	cmd := a.read(&cobra.Command{
		Use: "history NAME", Short: "Tell who changed what where and why, newest first", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeConfigurations,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.ConfigurationHistory(ctx, args[0], environment)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, one := range all {
				rows[i] = []string{one.ID, one.Environment, fmt.Sprintf("%d → %d", one.From, one.Number), string(one.State), one.By, a.when(&one.At), one.Reason, strings.Join(one.Blocks, "; ")}
			}
			return a.table([]string{"CHANGE", "ENVIRONMENT", "VERSION", "STATE", "BY", "AT", "REASON", "WAITS FOR"}, rows)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "only this one's")
	a.complete(cmd, "environment", environments)
	return cmd
}

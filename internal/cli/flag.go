package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// flag is `slipway flag`.
func (a *app) flag() *cobra.Command {
	group := a.group("flag", "Feature flags: what each is in each environment; switch, kill, carry over", `  slipway flag list
  slipway flag set fast-path --environment staging --state ENABLED --reason "try it"
  slipway flag kill fast-path --environment production --reason "orders are lost"
  slipway flag promote fast-path --from staging --to production --reason "it did well"`,
		a.flagList(), a.flagShow(), a.flagSet(), a.flagKill(), a.flagRevive(), a.flagEvaluate(), a.flagDiff(), a.flagPromote(), a.flagFindings(), a.nounDelete(noun{
			kind: resource.KindFlag, use: "flag", words: "flag", gone: "programs take their own default from then on",
		}))
	group.Aliases = []string{"flags"}
	return group
}

// completeFlags offers the keys of flags to the shell.
func (a *app) completeFlags(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.offer(cmd.Context(), func(ctx context.Context, c *client.Client, _ string) ([]string, error) {
		all, err := c.Flags(ctx)
		keys := make([]string, len(all))
		for i, v := range all {
			keys[i] = v.Key
		}
		return keys, err
	}, typed)
}

// stateWords are what a flag is in an environment, in short.
func stateWords(c featureflag.Setting) string {
	switch {
	case c.Killed:
		return "killed: " + *c.Flag.DefaultVariant
	case c.Flag.State == flag.Disabled:
		return "off"
	case len(c.Flag.Targeting) > 2:
		return "by rules"
	case c.Flag.DefaultVariant != nil:
		return *c.Flag.DefaultVariant
	}
	return "no default"
}

func (a *app) flagList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List all flags with what each is in each environment", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Flags(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, v := range all {
				var states []string
				for _, cell := range v.Environments {
					states = append(states, cell.Environment+": "+stateWords(cell))
				}
				rows[i] = []string{v.Key, v.Owner, strings.Join(states, "  "), yesNo(v.Devices), strconv.Itoa(len(v.Findings))}
			}
			return a.table([]string{"FLAG", "OWNER", "IN", "DEVICES", "FINDINGS"}, rows)
		}),
	})
}

func (a *app) flagShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show FLAG", Short: "Show a flag: its variants, its state everywhere, who changed it, who gets what", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFlags,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.Flags(ctx)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(all, func(v featureflag.Overview) bool { return v.Key == args[0] })
			if i < 0 {
				return problem.New(problem.NotFound, "there is no flag %q", args[0])
			}
			history, err := c.FlagHistory(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(struct {
					featureflag.Overview
					History []featureflag.Turn `json:"history"`
				}{all[i], history})
			}
			return a.showFlag(all[i], history)
		}),
	})
}

func (a *app) showFlag(v featureflag.Overview, history []featureflag.Turn) error {
	if err := a.print("%s\n  %s\n  owner: %s\n", v.Key, orDash(v.Description), orDash(v.Owner)); err != nil {
		return err
	}
	rows := make([][]string, len(v.Environments))
	for i, c := range v.Environments {
		var given []string
		for _, variant := range slices.Sorted(maps.Keys(c.Given)) {
			given = append(given, fmt.Sprintf("%s: %d", variant, c.Given[variant]))
		}
		by := ""
		if c.Said != nil {
			by = c.Said.By + ": " + c.Said.Reason
		}
		rows[i] = []string{c.Environment, stateWords(c), orDash(c.Release), strings.Join(given, "  "), by}
	}
	if err := a.table([]string{"ENVIRONMENT", "STATE", "RELEASE", "GIVEN OUT IN 7 DAYS", "LAST SET BY"}, rows); err != nil {
		return err
	}
	for _, f := range v.Findings {
		if err := a.print("! %s %s\n", f.Environment, f.Text); err != nil {
			return err
		}
	}
	for _, h := range history {
		if err := a.print("%s  %s  %s  %s\n", a.when(&h.At), h.Environment, h.By, h.Reason); err != nil {
			return err
		}
	}
	return nil
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// where are the flags of commands that change a feature flag somewhere.
type where struct{ environment, reason string }

func (a *app) whereFlags(cmd *cobra.Command, w *where) *cobra.Command {
	cmd.Flags().StringVar(&w.environment, "environment", "", "where (required)")
	cmd.Flags().StringVar(&w.reason, "reason", "", "why, for the history and the audit log (required)")
	a.complete(cmd, "environment", environments)
	cmd.ValidArgsFunction = a.completeFlags
	return cmd
}

func (w where) check() error {
	if w.environment == "" {
		return usage("say where with --environment NAME")
	}
	if w.reason == "" {
		return usage("say why with --reason TEXT")
	}
	return nil
}

func (a *app) flagSet() *cobra.Command {
	var w where
	var state, variant, rules string
	var plain bool
	cmd := a.whereFlags(a.read(&cobra.Command{
		Use: "set FLAG --environment NAME --reason TEXT", Short: "Say what a flag is in an environment", Args: cobra.ExactArgs(1),
		Long: "Say what a flag is in an environment, beside its definition. What is not said stays as the\nenvironment said it before; --as-defined takes everything back that it said.",
		Example: `  slipway flag set fast-path --environment staging --default on --reason "try it"
  slipway flag set fast-path --environment staging --targeting '{"fractional":[["on",10],["off",90]]}' --reason "a tenth"`,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := w.check(); err != nil {
				return err
			}
			overlay, etag, err := a.overlayOf(ctx, c, w.environment, args[0])
			if err != nil {
				return err
			}
			if plain {
				overlay = flag.Overlay{}
			}
			overlay.Killed = ""
			if state != "" {
				overlay.State = strings.ToUpper(state)
			}
			if variant != "" {
				overlay.DefaultVariant = &variant
			}
			if rules != "" {
				if !json.Valid([]byte(rules)) {
					return usage("--targeting is JSON; {} is no rule")
				}
				overlay.Targeting = json.RawMessage(rules)
			}
			s, err := c.SetFlag(ctx, w.environment, args[0], overlay, w.reason, etag)
			return a.flagChanged(s, err)
		}),
	}), &w)
	cmd.Flags().StringVar(&state, "state", "", "ENABLED or DISABLED")
	cmd.Flags().StringVar(&variant, "default", "", "the variant for whom no rule chooses")
	cmd.Flags().StringVar(&rules, "targeting", "", "the rule in JsonLogic that chooses a variant")
	cmd.Flags().BoolVar(&plain, "as-defined", false, "take back what the environment said before")
	return cmd
}

// overlayOf is what an environment says of a flag now.
func (a *app) overlayOf(ctx context.Context, c *client.Client, environment, key string) (flag.Overlay, string, error) {
	all, err := c.Flags(ctx)
	if err != nil {
		return flag.Overlay{}, "", err
	}
	for _, v := range all {
		for _, cell := range v.Environments {
			if v.Key == key && cell.Environment == environment && cell.Said != nil {
				return cell.Said.Overlay, cell.Said.ETag, nil
			}
		}
	}
	return flag.Overlay{}, "", nil
}

func (a *app) flagChanged(s featureflag.Said, err error) error {
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.json(s)
	}
	return a.print("flag/%s changed in %s\n", s.Flag, s.Environment)
}

func (a *app) flagKill() *cobra.Command {
	var w where
	var variant string
	cmd := a.whereFlags(a.read(&cobra.Command{
		Use: "kill FLAG --environment NAME --reason TEXT", Short: "Give everybody the variant that is off, at once and whatever rules say", Args: cobra.ExactArgs(1),
		Long:    "Give everybody in an environment one variant, at once and whatever rules say: the one that is\noff or false, unless --variant names another. No gate is asked. `slipway flag revive` takes it back.",
		Example: `  slipway flag kill fast-path --environment production --reason "orders are lost"`,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := w.check(); err != nil {
				return err
			}
			s, err := c.KillFlag(ctx, w.environment, args[0], variant, w.reason)
			return a.flagChanged(s, err)
		}),
	}), &w)
	cmd.Flags().StringVar(&variant, "variant", "", "what everybody gets")
	return cmd
}

func (a *app) flagRevive() *cobra.Command {
	var w where
	return a.whereFlags(a.read(&cobra.Command{
		Use: "revive FLAG --environment NAME --reason TEXT", Short: "Take a kill switch back", Args: cobra.ExactArgs(1),
		Example: `  slipway flag revive fast-path --environment production --reason "mended in v1.5.1"`,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := w.check(); err != nil {
				return err
			}
			s, err := c.ReviveFlag(ctx, w.environment, args[0], w.reason)
			return a.flagChanged(s, err)
		}),
	}), &w)
}

func (a *app) flagEvaluate() *cobra.Command {
	var environment, stamp, text string
	cmd := a.read(&cobra.Command{
		Use: "evaluate FLAG --environment NAME", Short: "Show what somebody gets for a flag; it counts as no evaluation", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFlags,
		Example: `  slipway flag evaluate fast-path --environment production --context '{"targetingKey":"sensor-0001"}'`,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if environment == "" {
				return usage("say where with --environment NAME")
			}
			var who map[string]any
			if err := json.Unmarshal([]byte(text), &who); err != nil {
				return usage("--context is a JSON object")
			}
			r, err := c.EvaluateFlag(ctx, environment, stamp, args[0], who)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(r)
			}
			if r.ErrorCode != "" {
				return problem.New(problem.Conflict, "%s: %s", r.ErrorCode, r.ErrorDetails)
			}
			return a.print("%s\t%s\t%s\n", orDash(r.Variant), orDash(string(r.Value)), r.Reason)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "where (required)")
	cmd.Flags().StringVar(&stamp, "stamp", "", "as that stamp has it")
	cmd.Flags().StringVar(&text, "context", "{}", "who asks, as JSON, with a targetingKey")
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) flagDiff() *cobra.Command {
	var from, to string
	cmd := a.read(&cobra.Command{
		Use: "diff --from NAME --to NAME", Short: "Show how flags differ between two environments; exits 3 if any does", Args: cobra.NoArgs,
		Example: "  slipway flag diff --from staging --to production",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			if from == "" || to == "" {
				return usage("say --from NAME and --to NAME")
			}
			all, err := c.DiffFlags(ctx, from, to)
			if err != nil {
				return err
			}
			if err := a.showFlagDiff(all); err != nil {
				return err
			}
			if len(all) > 0 {
				return answer(exitNo)
			}
			return nil
		}),
	})
	cmd.Flags().StringVar(&from, "from", "", "the environment they are compared with")
	cmd.Flags().StringVar(&to, "to", "", "the environment whose flags are looked at")
	a.complete(cmd, "from", environments)
	a.complete(cmd, "to", environments)
	return cmd
}

func (a *app) showFlagDiff(all []featureflag.Variance) error {
	if a.asJSON {
		return jsonList(a, all, "")
	}
	for _, d := range all {
		text := d.Text
		if d.Blocked != "" {
			text += " (cannot be carried over: " + d.Blocked + ")"
		}
		if err := a.print("%s\n", text); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) flagPromote() *cobra.Command {
	var from, to, reason string
	var force bool
	cmd := a.read(&cobra.Command{
		Use: "promote [FLAG…] --from NAME --to NAME --reason TEXT", Short: "Carry the state of flags over to the next environment, as one change",
		Long:    "Carry what one environment says of flags over to another: those named, or all that differ.\nA flag that was not exercised there with every variant keeps all of it back, unless --force.\nKill switches are not carried over.",
		Example: `  slipway flag promote fast-path --from staging --to production --reason "it did well"`, ValidArgsFunction: a.completeFlags,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if from == "" || to == "" || reason == "" {
				return usage("say --from NAME, --to NAME and --reason TEXT")
			}
			all, err := c.PromoteFlags(ctx, from, to, args, reason, force)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			for _, s := range all {
				if err := a.flagChanged(s, nil); err != nil {
					return err
				}
			}
			return nil
		}),
	})
	cmd.Flags().StringVar(&from, "from", "", "the environment whose state is carried over (required)")
	cmd.Flags().StringVar(&to, "to", "", "the environment that gets it (required)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the history and the audit log (required)")
	cmd.Flags().BoolVar(&force, "force", false, "though not all variants were exercised there")
	a.complete(cmd, "from", environments)
	a.complete(cmd, "to", environments)
	return cmd
}

func (a *app) flagFindings() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "findings", Short: "List flags without an owner, overdue, unused or settled; exits 3 if there are any", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			views, err := c.Flags(ctx)
			if err != nil {
				return err
			}
			var all []featureflag.Finding
			for _, v := range views {
				all = append(all, v.Findings...)
			}
			if a.asJSON {
				err = jsonList(a, all, "")
			} else {
				rows := make([][]string, len(all))
				for i, f := range all {
					rows[i] = []string{f.Flag, orDash(f.Environment), f.Kind, f.Text}
				}
				err = a.table([]string{"FLAG", "ENVIRONMENT", "KIND", "WHAT"}, rows)
			}
			if err == nil && len(all) > 0 {
				err = answer(exitNo)
			}
			return err
		}),
	})
}

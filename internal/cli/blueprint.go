package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// blueprint is `slipway blueprint`.
func (a *app) blueprint() *cobra.Command {
	return a.nounCommands(noun{
		kind: resource.KindBlueprint, use: "blueprint", words: "blueprint", gone: "no environment may be made from it any more",
		header: []string{"NAME", "STAMPS", "ROUTES", "ENVIRONMENTS"},
		row: func(_ *app, s client.Stored) ([]string, error) {
			spec, status, err := parts[resource.BlueprintSpec, resource.BlueprintStatus](s)
			return []string{s.Metadata.Name, strconv.Itoa(len(spec.Stamps)), strconv.Itoa(len(spec.Routes)), strings.Join(status.Environments, ",")}, err
		},
	})
}

func (a *app) environmentCreate() *cobra.Command {
	var like, scale, from, blueprint string
	var wait time.Duration
	cmd := a.read(&cobra.Command{
		Use: "create NAME", Short: "Make an environment like another one, of another size", Args: cobra.ExactArgs(1),
		Long: "Make an environment like another one: from the same blueprint, with the same differences,\nof another size. One that is made from no blueprint yet is written down as one first, and\nstays what it is. The command waits until the new stamps run.",
		Example: `  slipway environment create dev --like production --scale 1%
  slipway environment create load --like production --promotes-from test`,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if like == "" {
				return usage("say which environment it is to be like, with --like NAME")
			}
			if scale != "" {
				if _, err := resource.Scale(scale); err != nil {
					return err
				}
			}
			begun := a.now()
			other, err := a.likened(ctx, c, like, blueprint)
			if err != nil {
				return err
			}
			stored, err := c.Resource(ctx, resource.KindEnvironment, args[0], false)
			if err == nil {
				return problem.New(problem.Conflict, "there is an environment %s already; `slipway apply` changes it", stored.Metadata.Name)
			}
			if !problem.Is(err, problem.NotFound) {
				return err
			}
			spec, err := json.Marshal(resource.Like(other, scale, from))
			if err != nil {
				return err
			}
			made, err := c.Put(ctx, resource.Resource{APIVersion: resource.APIVersion, Kind: resource.KindEnvironment, Metadata: resource.Metadata{Name: args[0]}, Spec: spec}, "", false)
			if err != nil {
				return err
			}
			return a.awaitStamps(ctx, c, made, begun, wait)
		}),
	})
	cmd.Flags().StringVar(&like, "like", "", "the environment it is to be like (required)")
	cmd.Flags().StringVar(&scale, "scale", "", "how large its stamps are by that one's blueprint, such as 1%")
	cmd.Flags().StringVar(&from, "promotes-from", "", "the environment before it; default none")
	cmd.Flags().StringVar(&blueprint, "blueprint", "", "what the blueprint is called that is made of an environment without one; default its name")
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait for its stamps; 0 does not")
	a.complete(cmd, "like", environments)
	a.complete(cmd, "promotes-from", environments)
	return cmd
}

// likened is an environment made from a blueprint. One that is not gets one
// that says what it is.
func (a *app) likened(ctx context.Context, c *client.Client, name, blueprint string) (spec resource.EnvironmentSpec, err error) {
	stored, err := c.Resource(ctx, resource.KindEnvironment, name, false)
	if err != nil {
		return spec, err
	}
	if spec, err = resource.SpecOf[resource.EnvironmentSpec](stored.Resource); err != nil || spec.Blueprint != "" {
		return spec, err
	}
	if blueprint == "" {
		blueprint = name
	}
	stamps, err := specsOf[resource.StampSpec](ctx, c, resource.KindStamp)
	if err != nil {
		return spec, err
	}
	routes, err := allRoutes(ctx, c)
	if err != nil {
		return spec, err
	}
	env := resource.Environment{Metadata: stored.Metadata, Spec: spec}
	plan, own, left := resource.BlueprintOf(env, blueprint, stamps, routes)
	for _, one := range left {
		a.note("not in blueprint %s: %s\n", blueprint, one)
	}
	if err := declareOne(ctx, c, resource.KindBlueprint, blueprint, plan); err != nil {
		return spec, err
	}
	own.Promotion = spec.Promotion
	return own, declareOne(ctx, c, resource.KindEnvironment, name, own)
}

// declareOne declares one resource.
func declareOne(ctx context.Context, c *client.Client, kind, name string, spec any) error {
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	_, err = c.Put(ctx, resource.Resource{APIVersion: resource.APIVersion, Kind: kind, Metadata: resource.Metadata{Name: name}, Spec: text}, "", false)
	if err != nil {
		return fmt.Errorf("%s %s: %w", strings.ToLower(kind), name, err)
	}
	return nil
}

func specsOf[Spec any](ctx context.Context, c *client.Client, kind string) ([]resource.Object[Spec, resource.StampStatus], error) {
	stored, err := c.Resources(ctx, kind, false)
	all := make([]resource.Object[Spec, resource.StampStatus], len(stored))
	for i, s := range stored {
		all[i].Metadata = s.Metadata
		if all[i].Spec, err = resource.SpecOf[Spec](s.Resource); err != nil {
			return nil, err
		}
	}
	return all, err
}

func allRoutes(ctx context.Context, c *client.Client) ([]resource.Route, error) {
	stored, err := c.Resources(ctx, resource.KindRoute, false)
	all := make([]resource.Route, len(stored))
	for i, s := range stored {
		all[i].Metadata = s.Metadata
		if err := json.Unmarshal(s.Spec, &all[i].Spec); err != nil {
			return nil, err
		}
	}
	return all, err
}

// awaitStamps waits until every stamp of a new environment runs.
func (a *app) awaitStamps(ctx context.Context, c *client.Client, made client.Stored, begun time.Time, wait time.Duration) error {
	name := made.Metadata.Name
	for due := begun.Add(wait); ; {
		stamps, err := specsOf[resource.StampSpec](ctx, c, resource.KindStamp)
		if err != nil {
			return err
		}
		waiting, mine := []string{}, 0
		for _, s := range stamps {
			if s.Spec.Environment != name {
				continue
			}
			mine++
			stored, err := c.Resource(ctx, resource.KindStamp, s.Metadata.Name, false)
			if err != nil {
				return err
			}
			if _, status, err := parts[resource.StampSpec, resource.StampStatus](stored); err != nil || status.State == resource.StateJoining || status.SeenAt == nil {
				waiting = append(waiting, s.Metadata.Name)
			}
		}
		switch {
		case len(waiting) == 0 && a.asJSON:
			return a.json(made)
		case len(waiting) == 0:
			return a.print("environment/%s created; its %d stamps run after %s\n", name, mine, a.now().Sub(begun).Round(100*time.Millisecond))
		case !a.now().Before(due):
			return withHint(problem.New(problem.TimedOut, "environment %s is made, and these stamps do not run yet: %s", name, strings.Join(waiting, ", ")), "one that runs by itself joins with a token: slipway stamp token %s", waiting[0])
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (a *app) environmentExplain() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "explain NAME", Short: "Tell what an environment inherits from its blueprint, and where it differs and why", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames(resource.KindEnvironment),
		Example: "  slipway environment explain staging",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			d, err := c.Derivation(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(d)
			}
			if d.Blueprint == "" {
				return a.print("%s is made from no blueprint: all of it is its own\n", args[0])
			}
			if err := a.print("%s is made from blueprint %s, with %d differences\n", args[0], d.Blueprint, len(d.Differs)); err != nil {
				return err
			}
			for _, one := range d.Differs {
				if err := a.print("  %s is %s, not %s: %s\n", one.Path, shortly(one.Here), shortly(one.Blueprint), clean(one.Reason)); err != nil {
					return err
				}
			}
			rows := make([][]string, len(d.Inherits))
			for i, one := range d.Inherits {
				rows[i] = []string{one.Path, shortly(one.Value)}
			}
			return a.table([]string{"INHERITED", "VALUE"}, rows)
		}),
	})
}

// shortly is a value in a sentence.
func shortly(value json.RawMessage) string {
	const most = 60
	text := []rune(clean(string(value)))
	switch {
	case len(text) == 0:
		return "nothing"
	case len(text) > most:
		return string(text[:most]) + "…"
	}
	return string(text)
}

// secret is `slipway secret`.
func (a *app) secret() *cobra.Command {
	group := a.group("secret", "Secrets that files only name, as secret:NAME; each environment keeps its own", `  slipway secret set archive-key --environment staging < key.txt
  slipway secret list --environment staging`, a.secretSet(), a.secretList(), a.secretDelete())
	group.Aliases = []string{"secrets"}
	return group
}

// whose gives a command the flag that says of which environment.
func (a *app) whose(cmd *cobra.Command, environment *string) *cobra.Command {
	cmd.Flags().StringVar(environment, "environment", "", "which environment's (required)")
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) secretSet() *cobra.Command {
	var environment, file string
	cmd := a.whose(&cobra.Command{
		Use: "set NAME --environment NAME", Short: "Give an environment a secret; it is read from stdin or a file, and never shown", Args: cobra.ExactArgs(1),
		Example: "  openssl rand -base64 32 | sed 's/^/whsec_/' | slipway secret set orders-hook --environment staging",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if environment == "" {
				return usage("say where with --environment NAME")
			}
			text, err := a.readFile(file)
			if err != nil {
				return err
			}
			if err := c.SetSecret(ctx, environment, args[0], strings.TrimRight(string(text), "\r\n")); err != nil {
				return err
			}
			return a.print("secret/%s set in %s\n", args[0], environment)
		}),
	}, &environment)
	cmd.Flags().StringVar(&file, "from-file", "-", "file that holds it; - is stdin")
	return cmd
}

func (a *app) secretList() *cobra.Command {
	var environment string
	return a.whose(a.read(&cobra.Command{
		Use: "list --environment NAME", Short: "List the secrets an environment keeps, without them", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			if environment == "" {
				return usage("say where with --environment NAME")
			}
			all, err := c.Secrets(ctx, environment)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, s := range all {
				rows[i] = []string{s.Name, s.By, a.when(&s.At)}
			}
			return a.table([]string{"SECRET", "SET BY", "AT"}, rows)
		}),
	}), &environment)
}

func (a *app) secretDelete() *cobra.Command {
	var environment string
	var yes bool
	cmd := a.whose(&cobra.Command{
		Use: "delete NAME --environment NAME", Short: "Take a secret from an environment: routes that name it stop there", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if environment == "" {
				return usage("say where with --environment NAME")
			}
			if err := a.confirm(yes, "Delete the secret %s of %s", args[0], environment); err != nil {
				return err
			}
			if err := c.DeleteSecret(ctx, environment, args[0]); err != nil {
				return err
			}
			return a.print("secret/%s deleted in %s\n", args[0], environment)
		}),
	}, &environment)
	yesFlag(cmd, &yes)
	return cmd
}

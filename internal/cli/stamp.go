package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

func (a *app) stampDrain() *cobra.Command {
	o := moveOrder{}
	cmd := a.read(&cobra.Command{
		Use: "drain NAME", Short: "Let a stamp take no new devices, and move those it has elsewhere",
		Long: "Let a stamp take no new devices, and move those it has to the other stamps of its\n" +
			"environment, at a pace and only as far as those have room. Devices that are not\n" +
			"moved yet keep working. The move goes on whatever becomes of this command; when it\n" +
			"is complete the stamp can be closed, deleted or taken for something else.",
		Example:           "  slipway stamp drain prod-1 --per-second 5\n  slipway stamp drain prod-1 --to-stamp prod-3 --wait",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNames(resource.KindStamp),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := setState(ctx, c, args[0], link.StampDraining); err != nil {
				return err
			}
			o.From = args[0]
			if o.Reason == "" {
				o.Reason = "stamp " + args[0] + " is drained"
			}
			if o.wait {
				return a.moveDevices(ctx, c, o)
			}
			m, err := c.StartMove(ctx, o.key, o.MoveRequest)
			if err != nil {
				return err
			}
			return a.showMove(m)
		}),
	})
	flags := cmd.Flags()
	flags.Float64Var(&o.PerSecond, "per-second", 0, "begin with at most so many devices each second")
	flags.StringVar(&o.Stamp, "to-stamp", "", "the stamp they go to, as long as that takes them")
	flags.StringVar(&o.To, "to", "", "another environment they go to")
	flags.StringVar(&o.Reason, "reason", "", "why, for the devices' history and the audit log")
	flags.BoolVar(&o.wait, "wait", false, "wait until every device that was connected has arrived")
	flags.DurationVar(&o.timeout, "timeout", time.Hour, "how long to watch, with --wait")
	return cmd
}

func (a *app) stampCreate() *cobra.Command {
	var like string
	var spec resource.StampSpec
	cmd := a.read(&cobra.Command{
		Use: "create NAME", Short: "Declare a stamp, like another one or from scratch",
		Long: "Declare a stamp. With --like it is a copy of another one's declaration, but for what flags\n" +
			"say. With --local, control starts it on its own machine and looks after it; without,\n" +
			"`slipway stamp token` makes the token that `slipway serve stamp` joins with.",
		Example: "  slipway stamp create prod-3 --like prod-1 --local\n  slipway stamp create prod-4 --environment production --region eu-west --capacity 50000",
		Args:    cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			whole, err := specLike(ctx, c, like, spec)
			if err != nil {
				return err
			}
			text, err := json.Marshal(whole)
			if err != nil {
				return err
			}
			if _, err := c.Resource(ctx, resource.KindStamp, args[0], false); !problem.Is(err, problem.NotFound) {
				return cmp.Or(err, error(problem.New(problem.Conflict, "there is a stamp %s already; slipway apply changes it", args[0])))
			}
			stored, err := c.Put(ctx, resource.Resource{APIVersion: resource.APIVersion, Kind: resource.KindStamp, Metadata: resource.Metadata{Name: args[0]}, Spec: text}, "", false)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(stored)
			}
			return a.print("stamp/%s created\n", args[0])
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&like, "like", "", "the stamp it is a copy of")
	flags.StringVar(&spec.Environment, "environment", "", "environment it belongs to")
	flags.StringVar(&spec.Region, "region", "", "where it is")
	flags.IntVar(&spec.Capacity, "capacity", 0, "devices at most (default 10000)")
	flags.IntVar(&spec.Weight, "weight", 0, "share of weighted allocation (default 1)")
	flags.StringSliceVar(&spec.Tenants, "tenants", nil, "the only tenants whose devices it takes")
	flags.StringVar(&spec.Host, "host", "", "public host name")
	flags.BoolVar(&spec.Local, "local", false, "let control start it on its own machine and look after it")
	a.complete(cmd, "environment", environments)
	return cmd
}

// specLike is another stamp's spec, but for what is said and for what is its
// own: its host and state.
func specLike(ctx context.Context, c *client.Client, like string, said resource.StampSpec) (resource.StampSpec, error) {
	if like == "" {
		return said, nil
	}
	stored, err := c.Resource(ctx, resource.KindStamp, like, false)
	if err != nil {
		return said, err
	}
	spec, err := resource.SpecOf[resource.StampSpec](stored.Resource)
	spec.Host, spec.State, spec.Local = said.Host, "", said.Local
	spec.Environment, spec.Region = cmp.Or(said.Environment, spec.Environment), cmp.Or(said.Region, spec.Region)
	spec.Capacity, spec.Weight = cmp.Or(said.Capacity, spec.Capacity), cmp.Or(said.Weight, spec.Weight)
	if len(said.Tenants) > 0 {
		spec.Tenants = said.Tenants
	}
	return spec, err
}

// setState declares a stamp's state, leaving the rest as it is.
func setState(ctx context.Context, c *client.Client, name string, state link.StampState) error {
	stored, err := c.Resource(ctx, resource.KindStamp, name, false)
	if err != nil {
		return err
	}
	spec, err := resource.SpecOf[resource.StampSpec](stored.Resource)
	if err != nil || spec.State == state {
		return err
	}
	spec.State = state
	if stored.Spec, err = json.Marshal(spec); err != nil {
		return err
	}
	_, err = c.Put(ctx, stored.Resource, stored.Metadata.ETag, false)
	return err
}

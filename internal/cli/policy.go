package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/resource"
)

// policy is `slipway stamp policy`.
func (a *app) policy() *cobra.Command {
	group := a.group("policy", "The shared access policies with which back ends use a stamp's hub", `  # the connection string that azure-iothub and other service SDKs take
  slipway stamp policy list test-1 --json | jq -r '.items[] | select(.name=="service").primaryConnectionString'
  slipway stamp policy rotate test-1 service secondary`, a.policyList(), a.policyRotate())
	group.Aliases = []string{"policies"}
	return group
}

func (a *app) policyList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list STAMP", Short: "Show the policies with their keys; the audit log records it", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNames(resource.KindStamp),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.Policies(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showPolicies(all)
		}),
	})
}

func (a *app) policyRotate() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "rotate STAMP POLICY primary|secondary|swap", Short: "Make a key of a policy anew, or let the two change places", Args: cobra.ExactArgs(3),
		ValidArgsFunction: a.completeNames(resource.KindStamp),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.RotatePolicy(ctx, args[0], args[1], args[2])
			if err != nil {
				return err
			}
			return a.showRotated(p)
		}),
	})
}

// provisioning is `slipway provisioning`.
func (a *app) provisioning() *cobra.Command {
	list := a.read(&cobra.Command{
		Use: "list", Short: "Show the policies with their keys; the audit log records it", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.ServicePolicies(ctx)
			if err != nil {
				return err
			}
			return a.showPolicies(all)
		}),
	})
	rotate := a.read(&cobra.Command{
		Use: "rotate POLICY primary|secondary|swap", Short: "Make a key of a policy anew, or let the two change places", Args: cobra.ExactArgs(2),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.RotateServicePolicy(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			return a.showRotated(p)
		}),
	})
	policies := a.group("policy", "The shared access policies with which back ends use the provisioning service", `  # the connection string that azure-iot-provisioning-service takes
  slipway provisioning policy list --json | jq -r '.items[] | select(.name=="provisioningserviceowner").primaryConnectionString'`, list, rotate)
	policies.Aliases = []string{"policies"}
	return a.group("provisioning", "The endpoint at which devices register", "", policies, a.certificate(), a.authority(), a.provisioningToken())
}

func (a *app) showPolicies(all []fleet.Policy) error {
	if a.asJSON {
		return jsonList(a, all, "")
	}
	rows := make([][]string, len(all))
	for i, p := range all {
		rows[i] = []string{p.Name, strings.Join(p.Rights, ","), p.PrimaryConnectionString}
	}
	return a.table([]string{"POLICY", "RIGHTS", "CONNECTION STRING"}, rows)
}

func (a *app) showRotated(p fleet.Policy) error {
	if a.asJSON {
		return a.json(p)
	}
	return a.print("%s\n%s\n", p.PrimaryConnectionString, p.SecondaryConnectionString)
}

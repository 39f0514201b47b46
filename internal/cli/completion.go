package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/resource"
)

// names lists what the shell may complete.
type names func(ctx context.Context, c *client.Client, typed string) ([]string, error)

func environments(ctx context.Context, c *client.Client, _ string) ([]string, error) {
	return resourceNames(ctx, c, resource.KindEnvironment)
}

func stamps(ctx context.Context, c *client.Client, _ string) ([]string, error) {
	return resourceNames(ctx, c, resource.KindStamp)
}

func resourceNames(ctx context.Context, c *client.Client, kind string) ([]string, error) {
	all, err := c.Resources(ctx, kind, false)
	var found []string
	for _, s := range all {
		found = append(found, s.Metadata.Name)
	}
	return found, err
}

func deviceIDs(ctx context.Context, c *client.Client, typed string) ([]string, error) {
	page, err := c.Devices(ctx, fleet.Filter{Search: typed, Limit: 100})
	var ids []string
	for _, d := range page.Items {
		ids = append(ids, d.DeviceID)
	}
	return ids, err
}

// offer asks for names that begin as typed; completion stays silent when the
// installation does not answer.
func (a *app) offer(ctx context.Context, ask names, typed string) ([]string, cobra.ShellCompDirective) {
	c, err := a.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := ask(ctx, c, typed)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var fit []string
	for _, name := range all {
		if strings.HasPrefix(name, typed) {
			fit = append(fit, name)
		}
	}
	return fit, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeDevices(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.offer(cmd.Context(), deviceIDs, typed)
}

// complete lets the shell complete the values of a flag.
func (a *app) complete(cmd *cobra.Command, flag string, ask names) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return a.offer(cmd.Context(), ask, typed)
	})
	if err != nil {
		panic(err) // the flag is not defined: a mistake in this package
	}
}

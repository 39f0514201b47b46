package cli

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
)

func (a *app) update() *cobra.Command {
	return a.group("update", "See where devices stand with what they are to run", `A device is updated, pending, failed, rolledBack, unreachable or exempt, with the reason;
the truth is what it reports once it has confirmed.`, a.updateList(), a.updateShow())
}

func (a *app) updateList() *cobra.Command {
	var stamp, state string
	cmd := a.read(&cobra.Command{
		Use: "list --stamp STAMP", Short: "List the census of a stamp, in order of device", Args: cobra.NoArgs,
		Example: "  slipway update list --stamp production-eu-1 --state failed",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			var all []link.Update
			for after := ""; ; {
				page, err := c.Updates(ctx, stamp, link.UpdateState(state), after)
				if err != nil {
					return err
				}
				all = append(all, page.Items...)
				if after = page.Next; after == "" {
					break
				}
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, u := range all {
				rows[i] = updateRow(u)
			}
			return a.table(updateHeader, rows)
		}),
	})
	cmd.Flags().StringVar(&stamp, "stamp", "", "stamp whose devices to list")
	cmd.Flags().StringVar(&state, "state", "", "only those that are updated, pending, failed, rolledBack, unreachable or exempt")
	required(cmd, "stamp")
	return cmd
}

func (a *app) updateShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show DEVICE", Short: "Show where a device stands with what it is to run", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeDevices,
		Example: "  slipway update show sensor-17",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			u, err := c.Update(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(u)
			}
			return a.table(updateHeader, [][]string{updateRow(u)})
		}),
	})
}

var updateHeader = []string{"DEVICE", "STATE", "RELEASE", "HARDWARE", "RUNS", "ATTEMPTS", "REASON"}

func updateRow(u link.Update) []string {
	var runs []string
	for _, name := range slices.Sorted(maps.Keys(u.Running)) {
		runs = append(runs, clean(name)+" "+clean(u.Running[name]))
	}
	return []string{u.DeviceID, string(u.State), u.Release, clean(u.Hardware), strings.Join(runs, ", "), strconv.Itoa(u.Attempts), clean(u.Reason)}
}

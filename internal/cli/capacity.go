package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
)

func (a *app) capacity() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "capacity", Short: "Show each environment's room, how long it lasts, and what to do", Args: cobra.NoArgs,
		Long: "Show how many places the open stamps of each environment have, how fast they fill up, and\nwhat to do about it. Exit code 3: an environment takes no devices.",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Capacity(ctx)
			if err != nil {
				return err
			}
			full := false
			rows := make([][]string, len(all))
			for i, e := range all {
				rows[i] = []string{e.Environment, strconv.Itoa(e.Stamps), strconv.Itoa(e.Taken), strconv.Itoa(e.Places), fmt.Sprintf("%.0f %%", e.Free*100), fmt.Sprintf("%.1f", e.PerDay), e.Lasts(), strconv.Itoa(e.Waiting)}
				for _, advice := range e.Advice {
					full = full || advice.Severity == "bad"
				}
			}
			if a.asJSON {
				err = jsonList(a, all, "")
			} else {
				err = a.table([]string{"ENVIRONMENT", "OPEN STAMPS", "TAKEN", "PLACES", "FREE", "NEW/DAY", "LASTS", "WAITING"}, rows)
				for _, e := range all {
					for _, advice := range e.Advice {
						a.note("%s: %s: %s; %s\n", advice.Severity, e.Environment, advice.Says, advice.Remedy)
					}
				}
			}
			if err == nil && full {
				err = answer(3)
			}
			return err
		}),
	})
}

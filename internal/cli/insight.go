package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/insight"
)

func (a *app) insight() *cobra.Command {
	var days int
	var stamps bool
	cmd := a.read(&cobra.Command{
		Use: "insight [ENVIRONMENT]", Short: "Tell how often and how well releases reach environments and stamps",
		Long: "Tell how often releases reach an environment and its stamps, how long after they were made,\nhow many of them were found bad, and how long it took until all was well again. It goes by\n" +
			"what promotions and rollouts have recorded.",
		Example: "  slipway insight\n  slipway insight production --days 365 --stamps\n  slipway insight production --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			environment := ""
			if len(args) == 1 {
				environment = args[0]
			}
			all, err := c.Insight(ctx, environment, days)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			var rows [][]string
			for _, f := range all {
				if f.Stamp == "" || stamps {
					rows = append(rows, []string{f.Environment, f.Stamp, fmt.Sprint(f.Deployments), fmt.Sprintf("%.1f", f.PerWeek), lasting(f.Lead), shareFailing(f), lasting(f.Restore)})
				}
			}
			return a.table([]string{"ENVIRONMENT", "STAMP", "DEPLOYMENTS", "PER WEEK", "LEAD TIME", "FAILED", "TIME TO RESTORE"}, rows)
		}),
	})
	cmd.Flags().IntVar(&days, "days", 90, "how far back")
	cmd.Flags().BoolVar(&stamps, "stamps", false, "each stamp, too")
	return cmd
}

// lasting is the median of lengths of time.
func lasting(s *insight.Spread) string {
	if s == nil {
		return ""
	}
	return (time.Duration(s.MedianSeconds) * time.Second).String()
}

func shareFailing(f insight.Figures) string {
	if f.FailureRate == nil {
		return ""
	}
	text := fmt.Sprintf("%d of %d", f.Failed, f.Changes)
	if f.Open > 0 {
		text += fmt.Sprintf(", %d not restored", f.Open)
	}
	return text
}

package cli

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/resource"
)

func (a *app) upload() *cobra.Command {
	group := a.group("upload", "See and fetch the files that devices have sent", `  slipway upload list test-1 --device pump-1
  slipway upload get test-1 pump-1/logs/today.gz > today.gz`, a.uploadList(), a.uploadGet())
	group.Aliases = []string{"uploads"}
	return group
}

func (a *app) uploadList() *cobra.Command {
	var device string
	var limit int
	cmd := a.read(&cobra.Command{
		Use: "list STAMP", Short: "List files, newest first", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames(resource.KindStamp),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.Uploads(ctx, args[0], device, limit)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, u := range all {
				rows[i] = []string{u.Blob, u.Status, strconv.FormatInt(u.Size, 10), a.when(&u.CreatedAt), a.when(u.EndedAt), u.Description}
			}
			return a.table([]string{"FILE", "STATUS", "BYTES", "BEGUN", "ENDED", "DESCRIPTION"}, rows)
		}),
	})
	cmd.Flags().StringVar(&device, "device", "", "only files of this device")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many, up to 1000")
	return cmd
}

func (a *app) uploadGet() *cobra.Command {
	return &cobra.Command{
		Use: "get STAMP DEVICE/NAME", Short: "Write a file to standard output; the audit log records it", Args: cobra.ExactArgs(2),
		ValidArgsFunction: a.completeNames(resource.KindStamp),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			return c.ReadUpload(ctx, args[0], args[1], a.out)
		}),
	}
}

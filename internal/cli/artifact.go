package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/artifact"
)

func (a *app) artifact() *cobra.Command {
	group := a.group("artifact", "Send, list and fetch the files that releases are made of", `  slipway artifact put build/firmware.bin
  slipway artifact prune --dry-run`, a.artifactPut(), a.artifactList(), a.artifactShow(), a.artifactGet(), a.artifactPrune())
	group.Aliases = []string{"artifacts"}
	return group
}

func (a *app) artifactPut() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "put FILE…", Short: "Send files; what had arrived of one before is not sent again", Args: cobra.MinimumNArgs(1),
		Example: "  slipway artifact put firmware.bin --json | jq -r '.items[0].sha256'",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			var all []artifact.File
			for _, name := range args {
				f, err := a.send(ctx, c, name, filepath.Base(name))
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				all = append(all, f)
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, f := range all {
				rows[i] = []string{f.SHA256, f.File, strconv.FormatInt(f.Size, 10)}
			}
			return a.table([]string{"SHA-256", "FILE", "BYTES"}, rows)
		}),
	})
}

// send sends a file under a name and shows how far it is.
func (a *app) send(ctx context.Context, c *client.Client, file, name string) (f artifact.File, err error) {
	content, err := os.Open(file)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	info, err := content.Stat()
	if err != nil {
		return f, err
	}
	if !info.Mode().IsRegular() {
		return f, usage("%s is no file", file)
	}
	begun, first := a.now(), int64(-1)
	defer a.progress("")
	return c.PutArtifact(ctx, name, content, func(f artifact.File) {
		if first < 0 {
			first = f.Received
		}
		rate := float64(f.Received-first) / max(a.now().Sub(begun).Seconds(), 0.001)
		a.progress(fmt.Sprintf("%s  %d %% of %s, %s/s", clean(name), 100*f.Received/f.Size, bytesOf(f.Size), bytesOf(int64(rate))))
	})
}

// bytesOf shows a number of bytes to a person.
func bytesOf(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, units := float64(n)/unit, []string{"KiB", "MiB", "GiB", "TiB"}
	for len(units) > 1 && value >= unit {
		value, units = value/unit, units[1:]
	}
	return fmt.Sprintf("%.1f %s", value, units[0])
}

func (a *app) artifactList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List artifacts, in order of digest", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Artifacts(ctx)
			if err != nil {
				return err
			}
			return a.showArtifacts(all)
		}),
	})
}

func (a *app) showArtifacts(all []artifact.File) error {
	if a.asJSON {
		return jsonList(a, all, "")
	}
	rows := make([][]string, len(all))
	for i, f := range all {
		rows[i] = []string{f.SHA256, f.File, strconv.FormatInt(f.Size, 10), f.State, strconv.Itoa(f.Releases), a.when(&f.UsedAt)}
	}
	return a.table([]string{"SHA-256", "FILE", "BYTES", "STATE", "RELEASES", "USED"}, rows)
}

func (a *app) artifactShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show SHA256", Short: "Show one artifact, and how much of it has arrived", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			f, err := c.Artifact(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(f)
			}
			text, err := yamlOf(f)
			if err != nil {
				return err
			}
			return a.print("%s", text)
		}),
	})
}

func (a *app) artifactGet() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "get SHA256", Short: "Write an artifact to standard output, or go on with a file", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if output == "" {
				return c.ReadArtifact(ctx, args[0], 0, a.out)
			}
			return fetch(ctx, c, args[0], output)
		}),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; what is missing of one that is there is added")
	return cmd
}

// fetch completes a file, which is checked when it is whole.
func fetch(ctx context.Context, c *client.Client, sha256, name string) (err error) {
	f, err := c.Artifact(ctx, sha256)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	have, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if have < f.Size {
		if err := c.ReadArtifact(ctx, sha256, have, file); err != nil {
			return err
		}
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	got, err := digestOf(file)
	if err == nil && got != sha256 {
		err = fmt.Errorf("%s has the SHA-256 %s, not %s; what it began with was another file: delete it and repeat", name, got, sha256)
	}
	return err
}

func (a *app) artifactPrune() *cobra.Command {
	var unused time.Duration
	var dryRun, yes bool
	cmd := a.read(&cobra.Command{
		Use: "prune", Short: "Remove artifacts that no release names", Args: cobra.NoArgs,
		Example: "  slipway artifact prune --unused 168h --dry-run",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			if !dryRun {
				if err := a.confirm(yes, "Remove artifacts that no release names"); err != nil {
					return err
				}
			}
			all, err := c.PruneArtifacts(ctx, unused, dryRun)
			if err != nil {
				return err
			}
			return a.showArtifacts(all)
		}),
	})
	cmd.Flags().DurationVar(&unused, "unused", 24*time.Hour, "only those of which nothing came or was made for so long")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be removed, remove nothing")
	yesFlag(cmd, &yes)
	return cmd
}

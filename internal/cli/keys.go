package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/seal"
)

func (a *app) keys() *cobra.Command {
	return a.group("keys", "Keys that seal the secrets in databases", `  slipway keys show slipway-data/control/sealing.key
  slipway keys rotate slipway-data/control/sealing.key
  slipway keys generate`, a.keysShow(), a.keysRotate(), a.keysGenerate())
}

// sealingKey is one key of a file, which its id says nothing of.
type sealingKey struct {
	ID   string    `json:"id"`
	Made time.Time `json:"made"`
	Use  string    `json:"use"`
}

// uses says what each key of a ring is for at a moment.
func uses(ring seal.Ring, now time.Time) []sealingKey {
	sealer := ring.Sealer(now).ID
	all := make([]sealingKey, len(ring))
	for i, k := range ring {
		all[i] = sealingKey{k.ID, k.Made, "opens what is not yet sealed anew"}
		switch {
		case k.ID == sealer:
			all[i].Use = "seals"
		case i == 0:
			all[i].Use = "seals a minute after it was made"
		}
	}
	return all
}

func (a *app) keysShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show FILE", Short: "Show which keys are in a file, when they were made, and how far a rotation is", Args: cobra.ExactArgs(1),
		Long: `Show the keys of a file of sealing keys, without the keys themselves. While one
is being replaced there are two: the old one goes once nothing is sealed with
it any more.`,
		Example: `  slipway keys show slipway-data/control/sealing.key
  slipway keys show slipway-data/stamps/test-1/sealing.key --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ring, err := seal.Source{File: args[0]}.Read(cmd.Context())
			if err != nil {
				return err
			}
			all := uses(ring, time.Now())
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, k := range all {
				rows[i] = []string{k.ID, a.when(&k.Made), k.Use}
			}
			return a.table([]string{"KEY", "MADE", "USE"}, rows)
		},
	})
}

func (a *app) keysRotate() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "rotate FILE", Short: "Replace the key of a file, while the process that uses it runs", Args: cobra.ExactArgs(1),
		Long: `Put a new key into a file of sealing keys. The process that uses the file takes
notice within seconds, seals with the new key after a minute, seals anew
whatever older keys hold, and then takes the old key out. It may be stopped and
started anywhere in between; until the old key is gone, both are needed.`,
		Example: `  slipway keys rotate slipway-data/control/sealing.key
  slipway keys rotate slipway-data/control/sealing.key --wait 10m`,
		RunE: func(cmd *cobra.Command, args []string) error {
			from := seal.Source{File: args[0]}
			ring, err := from.Read(cmd.Context())
			if err != nil {
				return err
			}
			if len(ring) > 1 {
				return problem.New(problem.Conflict, "the key %s is being replaced already; `slipway keys show %s` tells how far that is", ring[1].ID, args[0])
			}
			fresh := seal.Generate(time.Now())
			if err := from.Write(append(seal.Ring{fresh}, ring...)); err != nil {
				return err
			}
			if err := a.print("%s is being replaced by %s\n", ring[0].ID, fresh.ID); err != nil || wait == 0 {
				return err
			}
			return a.awaitRotation(cmd.Context(), from, fresh.ID, wait)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait so long until the old key is gone")
	return cmd
}

// lookEvery is how often a rotation is looked at.
const lookEvery = time.Second

// awaitRotation waits until a key is the only one.
func (a *app) awaitRotation(ctx context.Context, from seal.Source, id string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		ring, err := from.Read(ctx)
		if err != nil {
			return err
		}
		if len(ring) == 1 && ring[0].ID == id {
			return a.print("done: everything is sealed with %s\n", id)
		}
		select {
		case <-ctx.Done():
			return problem.New(problem.TimedOut, "not everything is sealed anew yet; a process that uses %s has to run", from.File)
		case <-tick.C:
		}
	}
}

func (a *app) keysGenerate() *cobra.Command {
	return &cobra.Command{
		Use: "generate", Short: "Print a new sealing key, for a place of your own where sealing keys come from", Args: cobra.NoArgs,
		Long: `Print a new sealing key: one line, which is to be the first of those that
credential:NAME or command:PROGRAM yield (--sealing-keys). The file that an
installation keeps by itself is made and rotated without it.`,
		Example: `  slipway keys generate > first.key`,
		RunE: func(*cobra.Command, []string) error {
			return a.print("%s\n", seal.Generate(time.Now()).Line())
		},
	}
}

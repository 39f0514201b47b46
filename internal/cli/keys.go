package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/seal"
)

func (a *app) keys() *cobra.Command {
	return a.group("keys", "Keys of the installation", `  slipway keys generate >> sealing.key`, a.keysGenerate())
}

func (a *app) keysGenerate() *cobra.Command {
	return &cobra.Command{
		Use: "generate", Short: "Print a new sealing key, for a place of your own where sealing keys come from", Args: cobra.NoArgs,
		Long: `Print a new sealing key: one line, which is to be the first of those that
credential:NAME or command:PROGRAM yield (--sealing-keys). The file that an
installation keeps by itself needs none.`,
		Example: `  slipway keys generate > first.key`,
		RunE: func(*cobra.Command, []string) error {
			return a.print("%s\n", seal.Generate(time.Now()).Line())
		},
	}
}

package cli

import (
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Commands is every command there is, for manual pages and completions. None
// of them is to be run.
func Commands() *cobra.Command {
	a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, now: time.Now, env: func(string) string { return "" }}
	return a.root()
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/trail"
	"github.com/slipway/slipway/internal/up"
)

func (a *app) up() *cobra.Command {
	var o up.Options
	var level string
	said := trail.Options{Plane: "all"}
	cmd := &cobra.Command{
		Use: "up", Short: "Run a whole installation on this machine", Args: cobra.NoArgs,
		Long: "Run a whole installation in this process: control, provisioning and every stamp, over\n" +
			"one data directory. A first start makes a Test environment with one stamp and a\n" +
			"Production environment with two. The first interrupt ends it gracefully, a second at once.",
		Example: "  slipway up --demo 25\n  slipway up --data /var/lib/slipway --https 0.0.0.0:8443 --mqtts 0.0.0.0:8883 --file site.yaml",
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			var threshold slog.Level
			if err := threshold.UnmarshalText([]byte(level)); err != nil {
				return usage("--log-level must be debug, info, warn or error, not %q", level)
			}
			if o.Demo < 0 || o.Demo > maxDemo {
				return usage("--demo must be 0 to %d, not %d", maxDemo, o.Demo)
			}
			dir, err := filepath.Abs(a.dataDir())
			if err != nil {
				return err
			}
			o.Data = dir
			o.Database = cmp.Or(o.Database, a.env("SLIPWAY_DATABASE"))
			said.Output = slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: threshold})
			return a.runUp(cmd.Context(), o, said)
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&o.Demo, "demo", 0, "run so many simulated devices too")
	flags.StringArrayVarP(&o.Files, "file", "f", nil, "YAML file with resources to apply at start; may be repeated")
	flags.StringVar(&o.HTTP, "http", ":8080", "console and API without TLS, for this machine only")
	flags.StringVar(&o.HTTPS, "https", ":8443", "console, API and device HTTPS")
	flags.StringVar(&o.MQTTS, "mqtts", ":8883", "device MQTT")
	flags.StringVar(&o.AMQPS, "amqps", "", "back-end AMQP (default :5671, or a free port where that is taken or --mqtts asks for any)")
	flags.StringVar(&o.SealingKeys, "sealing-keys", "", "where the keys come from that seal secrets in the databases: file:PATH, credential:NAME of systemd, or command:PROGRAM ARGUMENT…; a file beside each database if not given")
	flags.StringSliceVar(&o.From, "allow-from", nil, "DOOR=NETWORK from where a door may be used: people, devices, mqtt, amqp or metrics, such as people=10.1.0.0/16; may be repeated; a door not named is open to all")
	flags.StringSliceVar(&o.Networks, "allow-network", nil, "private network that routes, webhooks and gates may reach, such as 10.1.0.0/16; may be repeated")
	flags.StringArrayVar(&o.Witnesses, "audit-witness", nil, "file or URL that keeps the signed checkpoints of the audit log, out of reach of who runs this machine")
	flags.StringVar(&o.Prometheus, "prometheus", "", "URL of the Prometheus that keeps metrics instead of the installation, such as https://prometheus.example.com")
	flags.StringVar(&said.Collector, "otlp", "", "URL of an OpenTelemetry collector that logs and traces go to, too, such as https://otel.example.com:4318; OTEL_EXPORTER_OTLP_HEADERS holds what it asks for")
	flags.Float64Var(&said.Share, "traces", trail.DefaultShare, "of how many requests of devices there is a trace, 0 to 1; those of people all have one")
	flags.DurationVar(&o.Probes, "probes", time.Minute, "how often each stamp is tried as by a device; 0 is never")
	flags.StringVar(&o.Provider.Issuer, "oidc-issuer", "", "identity provider that people sign in with, such as https://login.example.com")
	flags.StringVar(&o.Provider.ClientID, "oidc-client", "", "client by which the identity provider knows the console")
	flags.StringVar(&o.Provider.SecretFile, "oidc-secret-file", "", "file of that client's secret")
	flags.StringVar(&o.Provider.Name, "oidc-name", "", "what people call the identity provider")
	flags.StringVar(&o.Provider.GroupsClaim, "oidc-groups", "", "claim that lists people's groups (default groups)")
	flags.BoolVar(&o.Provider.RequireMFA, "oidc-require-mfa", false, "refuse people who showed the identity provider one factor only")
	flags.StringVar(&o.Database, "database", "", "PostgreSQL instead of SQLite, as postgres://user@host/name: a schema for each plane and stamp (SLIPWAY_DATABASE)")
	flags.DurationVar(&o.UpdatePoll, "update-poll", 0, "how long SWUpdate and other update clients wait before they look again (default 5m)")
	flags.StringVar(&o.Backups, "backups", "", "YAML file that says where backups are kept and who decrypts them")
	flags.StringVar(&o.ReadyFile, "ready-file", "", "write addresses, id scope, CA path and token there as JSON when ready")
	flags.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// maxDemo is as many simulated devices as one process runs well.
const maxDemo = 10_000

// runUp runs the installation; a banner that cannot be written ends nothing.
func (a *app) runUp(ctx context.Context, o up.Options, said trail.Options) (err error) {
	said.Version = versionText()
	if o.Trail, err = trail.Open(ctx, said); err != nil {
		return err
	}
	defer a.lastWords(ctx, o.Trail)
	o.Logger = o.Trail.Logger()
	o.Ready = func(r up.Ready) {
		if err := a.print("%s%s", banner(r), a.next(r)); err != nil {
			o.Logger.Warn("the banner was not written", "error", err)
		}
	}
	o.Version = versionText()
	err = up.Run(ctx, o)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return withHint(err, "another program listens there; --http, --https, --mqtts and --amqps name other ports, and :0 any free one")
	case err == nil:
		o.Logger.Info("stopped")
	}
	return err
}

// lastWords gives a collector what it has not yet, while it takes it.
func (a *app) lastWords(ctx context.Context, t *trail.Trail) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWordsWithin)
	defer cancel()
	if err := t.Close(ctx); err != nil {
		a.note("the collector did not take the last of what the process said: %s\n", err)
	}
}

const lastWordsWithin = 3 * time.Second

// banner says where everything is and what to try next.
func banner(r up.Ready) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	line := func(format string, args ...any) {
		// A strings.Builder takes everything.
		if _, err := fmt.Fprintf(w, format+"\n", args...); err != nil {
			panic(err)
		}
	}
	line("\nSlipway is ready.\n")
	line("  Console\t%s", r.Console)
	if r.FirstStart && r.AdminToken != "" {
		line("  First login\t%s", r.AdminToken)
	} else {
		line("  Login\twith an API token; the first one is in %s", r.TokenFile)
	}
	line("  API\t%s", r.API)
	line("  Provisioning\t%s (MQTT), port %d (HTTPS)", address(r.Provisioning.Host, r.Provisioning.MQTTS), r.Provisioning.HTTPS)
	line("  Id scope\t%s", r.Provisioning.IDScope)
	line("  CA to trust\t%s", r.CA)
	line("  Data\t%s", r.DataDir)
	line("")
	line("  STAMP\tENVIRONMENT\tREGION\tMQTT")
	for _, s := range r.Stamps {
		line("  %s\t%s\t%s\t%s", s.Name, s.Environment, s.Region, address(s.Host, s.MQTTS))
	}
	if err := w.Flush(); err != nil {
		panic(err)
	}
	return b.String()
}

// next are the commands worth trying, as they work from this directory.
func (a *app) next(r up.Ready) string {
	command := executable()
	if dir := a.dataDir(); dir != defaultData && a.env("SLIPWAY_DATA") == "" {
		command += " --data " + dir
	}
	tries := []string{"status"}
	if r.Demo > 0 {
		tries = []string{"device list", "device watch sensor-0001", "device move sensor-0001 --to production --wait"}
	}
	text := "\nTry, in another terminal:\n"
	for _, try := range tries {
		text += "  " + command + " " + try + "\n"
	}
	return text + "\n"
}

// executable is how this program was called, if that works again: a program
// that `go run` built is gone soon.
func executable() string {
	called := os.Args[0]
	if strings.Contains(called, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/slipway"
	}
	if filepath.Base(called) == called || strings.HasPrefix(called, ".") {
		return called
	}
	return "slipway"
}

func address(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

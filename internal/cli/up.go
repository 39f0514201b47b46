package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/up"
)

func (a *app) upCommand() *cobra.Command {
	var o up.Options
	var verbose bool
	c := &cobra.Command{
		Use: "up", Short: "Run everything in one process: control, provisioning and all stamps",
		Long: `Run everything in one process: control, provisioning and all stamps, over one
data directory. The first start makes a Test environment with one stamp and a
Production environment with two, a development CA and an admin token.`,
		Example: `  slipway up
  slipway up --demo 25
  slipway up --data /var/lib/slipway --mqtts 10.0.0.5:8883 --https 10.0.0.5:8443
  slipway up --http :0 --https :0 --mqtts :0 --ready-file ready.json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			o.Data, o.Logger, o.Ready = a.data, a.logger(verbose), a.welcome
			return up.Run(c.Context(), o)
		},
	}
	flags := c.Flags()
	flags.IntVar(&o.Demo, "demo", 0, "also run this many simulated devices")
	flags.StringArrayVarP(&o.Files, "file", "f", nil, "apply the resources in this file at start (repeatable); at the first start instead of the built-in ones")
	flags.StringVar(&o.HTTP, "http", ":8080", "address of the console and API without TLS, on loopback")
	flags.StringVar(&o.HTTPS, "https", ":8443", "address of the console, API and device HTTPS; without a host, loopback")
	flags.StringVar(&o.MQTTS, "mqtts", ":8883", "address of device MQTT; without a host, loopback")
	flags.StringVar(&o.ReadyFile, "ready-file", "", "write where everything is to this file, as JSON, when ready")
	flags.BoolVar(&verbose, "verbose", false, "log what happens in detail")
	return c
}

// welcome prints where everything is and what to try next.
func (a *app) welcome(r up.Ready) {
	var b strings.Builder
	fmt.Fprintf(&b, "Slipway is up.\n\n  console        %s\n", r.Console)
	if r.FirstStart {
		fmt.Fprintf(&b, "  first login    %s   (kept in %s)\n", r.AdminToken, r.TokenFile)
	} else {
		fmt.Fprintf(&b, "  login          the token in %s\n", r.TokenFile)
	}
	fmt.Fprintf(&b, "  API            %s/api/openapi.json\n", r.API)
	fmt.Fprintf(&b, "  devices        mqtts://%s:%d, https port %d, id scope %s\n", r.Provisioning.Host, r.Provisioning.MQTTS, r.Provisioning.HTTPS, r.Provisioning.IDScope)
	fmt.Fprintf(&b, "  they trust     %s\n\n", r.CA)
	for _, s := range r.Stamps {
		fmt.Fprintf(&b, "  %-12s %-18s %-10s %s:%d\n", s.Environment, s.Name, s.Region, s.Host, s.MQTTS)
	}
	data := ""
	if a.data != "slipway-data" {
		data = " --data " + a.data
	}
	if r.Demo > 0 {
		fmt.Fprintf(&b, "\n%d simulated devices are provisioning themselves. Try, in another terminal:\n\n", r.Demo)
		fmt.Fprintf(&b, "  slipway device list%s\n  slipway device watch sensor-0001%s\n  slipway device move sensor-0001 --to production --wait%s\n\n", data, data, data)
	} else {
		fmt.Fprintf(&b, "\nNext: `slipway enrollment-group list%s`, or apply one; docs/how-to shows how devices connect.\n\n", data)
	}
	fmt.Fprint(a.out, b.String())
}

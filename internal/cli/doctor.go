package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/problem"
)

// The verdicts of a check.
const (
	passed  = "ok"
	warned  = "warn"
	failing = "fail"
)

// check is one thing the doctor looked at.
type check struct {
	Name   string `json:"check"`
	Result string `json:"result"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

func (a *app) doctor() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "doctor", Short: "Find out what is wrong with an installation or the way to it; exits 3 if something is", Args: cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			c, err := a.choose()
			if err != nil {
				return err
			}
			d := &diagnosis{app: a, choice: c}
			d.examine(cmd.Context())
			return a.showDiagnosis(d.checks)
		}),
	})
}

func (a *app) showDiagnosis(checks []check) error {
	bad := false
	rows := make([][]string, len(checks))
	for i, c := range checks {
		rows[i] = []string{c.Result, c.Name, c.Detail}
		bad = bad || c.Result == failing
	}
	if a.asJSON {
		if err := jsonList(a, checks, ""); err != nil {
			return err
		}
	} else if err := a.table([]string{"RESULT", "CHECK", "DETAIL"}, rows); err != nil {
		return err
	}
	for _, c := range checks {
		if c.Remedy != "" && c.Result != passed {
			a.note("hint: %s: %s\n", c.Name, c.Remedy)
		}
	}
	if bad {
		return answer(exitNo)
	}
	return nil
}

// diagnosis collects checks, each of which needs the ones before.
type diagnosis struct {
	app    *app
	choice choice
	pool   *x509.CertPool
	checks []check
}

func (d *diagnosis) add(name, result, detail, remedy string) {
	d.checks = append(d.checks, check{name, result, detail, remedy})
}

func (d *diagnosis) examine(ctx context.Context) {
	d.add("installation", passed, fmt.Sprintf("%s, said by %s", d.choice.URL, d.choice.source), "")
	if !d.authority() {
		return
	}
	levels, ok := d.api(ctx)
	if ok {
		d.stamps(ctx, levels)
	}
	if local := d.choice.local; local != nil {
		d.door(ctx, "provisioning", address(local.Provisioning.Host, local.Provisioning.MQTTS))
		d.disk(local.DataDir)
	}
}

// authority checks that the CA file can be used.
func (d *diagnosis) authority() bool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	d.pool = pool
	if d.choice.CA == "" {
		d.add("ca", passed, "the system's authorities only", "")
		return true
	}
	text, err := os.ReadFile(d.choice.CA)
	if err != nil {
		d.add("ca", failing, err.Error(), "name the installation's ca.pem with --ca or SLIPWAY_CA")
		return false
	}
	block, _ := pem.Decode(text)
	if block == nil || !pool.AppendCertsFromPEM(text) {
		d.add("ca", failing, d.choice.CA+" holds no PEM certificate", "copy ca.pem from the server's data directory again")
		return false
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		d.add("ca", failing, err.Error(), "copy ca.pem from the server's data directory again")
		return false
	}
	result := passed
	if left := certificate.NotAfter.Sub(d.app.now()); left < 30*24*time.Hour {
		result = warned
	}
	d.add("ca", result, fmt.Sprintf("%s, good until %s", d.choice.CA, certificate.NotAfter.Format(time.DateOnly)), "devices need a new authority before this one ends")
	return true
}

// api checks that the API answers, takes the token, and reaches provisioning.
func (d *diagnosis) api(ctx context.Context) ([]fleet.Level, bool) {
	c, err := d.choice.client()
	if err != nil {
		d.add("api", failing, err.Error(), "")
		return nil, false
	}
	start := d.app.now()
	levels, err := c.Overview(ctx)
	if err != nil {
		d.unanswered(err)
		return nil, false
	}
	d.add("api", passed, fmt.Sprintf("answered in %d ms", d.app.now().Sub(start).Milliseconds()), "")
	d.add("token", passed, "accepted", "")
	d.scope(ctx, c)
	return levels, true
}

func (d *diagnosis) unanswered(err error) {
	if codeOf(err) == exitDenied {
		d.add("api", passed, "reachable", "")
		d.add("token", failing, err.Error(), hints[problem.Unauthenticated])
		return
	}
	d.add("api", failing, err.Error(), "check that it runs, the URL, and the CA (--url, --ca)")
}

func (d *diagnosis) scope(ctx context.Context, c *client.Client) {
	scope, err := c.Scope(ctx)
	if err != nil {
		d.add("id scope", failing, err.Error(), "provisioning does not answer control; devices already assigned go on, new ones cannot register")
		return
	}
	d.add("id scope", passed, scope.IDScope, "")
}

// freshFor is how old a stamp's last word may be.
const freshFor = 10 * time.Second

// stamps checks that each stamp tells of itself and can be connected to.
func (d *diagnosis) stamps(ctx context.Context, levels []fleet.Level) {
	for _, level := range levels {
		for _, place := range level.Stamps {
			name := "stamp " + place.Metadata.Name
			switch {
			case place.Status.Problem != "":
				d.add(name, failing, place.Status.Problem, "the server's log has more")
				continue
			case place.AgeSeconds < 0 || place.AgeSeconds > freshFor.Seconds():
				d.add(name, warned, fmt.Sprintf("last told of itself %.0f s ago", place.AgeSeconds), "it may be overloaded or cut off from control")
			}
			if place.Status.Assigned >= place.Spec.Capacity {
				d.add(name, warned, fmt.Sprintf("full: %d devices", place.Status.Assigned), "raise spec.capacity or add a stamp")
			}
			d.door(ctx, name, withPort(place.Status.Host))
		}
	}
}

// defaultMQTTS is the port of a host that names none.
const defaultMQTTS = "8883"

func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), defaultMQTTS)
}

// door checks that a device could open a TLS connection to an address.
func (d *diagnosis) door(ctx context.Context, name, address string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: d.pool, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		d.add(name, failing, err.Error(), "devices cannot connect to "+address+" with this CA")
		return
	}
	detail := address + " speaks TLS"
	if secured, ok := conn.(*tls.Conn); ok {
		state := secured.ConnectionState()
		detail = fmt.Sprintf("%s, %s, certificate until %s", address, tls.VersionName(state.Version), state.PeerCertificates[0].NotAfter.Format(time.DateOnly))
	}
	if err := conn.Close(); err != nil {
		detail += ", " + err.Error()
	}
	d.add(name, passed, detail, "")
}

// The space that must be left where the data is.
const (
	tightSpace = 5 << 30
	noSpace    = 1 << 30
)

func (d *diagnosis) disk(dir string) {
	free, err := freeSpace(dir)
	result := passed
	switch {
	case err != nil:
		d.add("disk", warned, err.Error(), "")
		return
	case free < noSpace:
		result = failing
	case free < tightSpace:
		result = warned
	}
	d.add("disk", result, fmt.Sprintf("%.1f GB free for %s", float64(free)/(1<<30), dir), "make room, or telemetry will be refused when it is full")
}

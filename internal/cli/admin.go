package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/fleet"
)

func (a *app) statusCommand() *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "status", Short: "Show the environments with their stamps as they are now", Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			levels, err := api.Overview(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(client.Page[fleet.Level]{Items: levels})
			}
			rows := [][]string{{"environment", "stamp", "region", "state", "devices", "capacity", "connected", "msg/s", "host"}}
			for _, l := range levels {
				for _, s := range l.Stamps {
					rows = append(rows, []string{l.Name, s.Metadata.Name, s.Spec.Region, string(s.Spec.State), strconv.Itoa(s.Status.Assigned), strconv.Itoa(s.Spec.Capacity), strconv.FormatInt(s.Status.Connected, 10), fmt.Sprintf("%.1f", s.Status.Rate), s.Status.Host})
				}
				if l.Waiting > 0 {
					rows = append(rows, []string{l.Name, "(waiting)", "", "", strconv.Itoa(l.Waiting), "", "", "", ""})
				}
			}
			return a.table(rows)
		},
	})
}

func (a *app) tokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token", Aliases: []string{"tokens"}, Short: "API tokens: create, list, revoke"}
	var life time.Duration
	create := &cobra.Command{
		Use: "create NAME", Short: "Make a token; it is printed once", Args: exactly(1), Example: "  slipway token create ci --expires-in 720h",
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			t, err := api.CreateToken(c.Context(), args[0], life)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(t)
			}
			fmt.Fprintln(a.out, t.Secret)
			return nil
		},
	}
	create.Flags().DurationVar(&life, "expires-in", 0, "how long it is valid; 0: for ever")
	c.AddCommand(a.reads(create), a.tokenList(), &cobra.Command{
		Use: "revoke ID", Short: "Revoke a token and the sessions opened with it", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			return api.RevokeToken(c.Context(), args[0])
		},
	})
	return c
}

func (a *app) tokenList() *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "list", Short: "List the tokens, without their secrets", Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			all, err := api.Tokens(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(client.Page[access.Token]{Items: all})
			}
			rows := [][]string{{"id", "name", "created", "by", "expires"}}
			for _, t := range all {
				expires := "never"
				if t.ExpiresAt != nil {
					expires = t.ExpiresAt.Format(time.RFC3339)
				}
				rows = append(rows, []string{t.ID, t.Name, a.when(&t.CreatedAt), t.CreatedBy, expires})
			}
			return a.table(rows)
		},
	})
}

func (a *app) auditCommand() *cobra.Command {
	var limit int
	var before int64
	list := &cobra.Command{
		Use: "list", Short: "Print who did what, newest first", Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			entries, err := api.Audit(c.Context(), before, limit)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(client.Page[audit.Entry]{Items: entries})
			}
			rows := [][]string{{"at", "actor", "action", "object", "outcome", "detail"}}
			for _, e := range entries {
				detail := e.Detail
				if len(detail) > 60 {
					detail = detail[:60] + "…"
				}
				rows = append(rows, []string{a.when(&e.At), e.Actor, e.Action, e.Object, e.Outcome, detail})
			}
			return a.table(rows)
		},
	}
	list.Flags().IntVar(&limit, "limit", 100, "entries at most")
	list.Flags().Int64Var(&before, "before", 0, "entries older than this sequence")
	c := &cobra.Command{Use: "audit", Short: "The audit log: list"}
	c.AddCommand(a.reads(list))
	return c
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Check that this machine can reach and use the installation", Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			healthy := true
			check := func(what string, err error) {
				if err != nil {
					healthy = false
					fmt.Fprintf(a.out, "FAIL  %s: %v\n", what, err)
					return
				}
				fmt.Fprintf(a.out, "ok    %s\n", what)
			}
			api, err := a.client()
			check("an installation is configured", err)
			if err == nil {
				levels, err := api.Overview(c.Context())
				check("the API answers and knows the token", err)
				for _, l := range levels {
					for _, s := range l.Stamps {
						check("stamp "+s.Metadata.Name+" answers devices at "+s.Status.Host, a.handshake(c.Context(), s.Status.Host))
					}
				}
			}
			if !healthy {
				return exit(exitFailure)
			}
			return nil
		},
	}
}

// handshake tries what a device does first: TLS with the installation's CA.
func (a *app) handshake(ctx context.Context, host string) error {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, "8883"
	}
	file := first(a.ca, os.Getenv("SLIPWAY_CA"))
	if file == "" {
		if local, err := a.local(); err == nil {
			file = local.CA
		}
	}
	config := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}
	if file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(pem)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(name, port))
	if err != nil {
		return err
	}
	return conn.Close()
}

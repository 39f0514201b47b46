package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/ca"
	"github.com/slipway/slipway/internal/control"
	"github.com/slipway/slipway/internal/inbound"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/peer"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/tasks"
)

// control runs the control plane: its database, the authority, the first
// server of the link, API and console.
func (p *process) control(ctx context.Context) (err error) {
	authority, err := ca.Open(p.Config.Data, p.now)
	if err != nil {
		return err
	}
	authority.Name(p.Config.Hosts...)
	var plane atomic.Pointer[control.Plane]
	server, err := bus.Start(ctx, bus.Options{Name: link.ControlPeer, Logger: p.Logger, Door: &bus.Door{
		Listen: p.Config.Link.Listen, Advertise: p.Config.Link.Advertise, Cluster: p.Config.Link.Cluster,
		TLS: peer.LinkTLS(authority.Pool(), authority.Own(link.ControlPeer, peer.URI(link.ControlPeer))),
		Peer: func(certificate *x509.Certificate) (string, error) {
			if running := plane.Load(); running != nil {
				return running.Admit(certificate)
			}
			return "", problem.New(problem.NotReady, "control is starting")
		},
	}})
	if err != nil {
		return err
	}
	defer server.Stop()
	conn, err := server.Connect(link.ControlPeer)
	if err != nil {
		return err
	}
	defer conn.Close()
	linkAt, clusterAt := p.reachable(p.Config.Link.Advertise, server.Address()), p.reachable("", server.ClusterAddress())
	secured, plain, err := p.listenControl()
	if err != nil {
		return err
	}
	api := "https://" + at(p.Config.Hosts[0], secured.Addr().(*net.TCPAddr).Port)
	driver := &localStamps{process: p, api: api, started: map[string]time.Time{}, token: func(ctx context.Context, stamp string) (string, error) {
		return plane.Load().JoinToken(ctx, link.StampPeer(stamp))
	}, again: func() { plane.Load().Look() }}
	guard, err := outbound.New(p.Config.Networks)
	if err != nil {
		return err
	}
	artifacts, err := p.Config.Artifacts.options()
	if err != nil {
		return err
	}
	var provider *control.Provider
	if p.Config.OIDC != nil {
		if provider, err = control.OpenProvider(*p.Config.OIDC, "oidc"); err != nil {
			return err
		}
	}
	backups, err := p.Config.backups()
	if err != nil {
		return err
	}
	witnesses, err := p.Config.Audit.witnesses()
	if err != nil {
		return err
	}
	probes := p.Config.probe()
	probes.CA = authority.Pool()
	built, err := control.New(ctx, control.Options{
		Probe:    probes,
		Provider: provider,
		Address:  api,
		Backups:  backups,
		Guard:    guard, Prometheus: p.Config.Prometheus, Witnesses: witnesses, Metrics: control.Metrics{Age: days(p.Config.Metrics.Days), Bytes: p.Config.Metrics.Bytes},
		Journal: control.Journal{Age: days(p.Config.Journal.Days), Bytes: p.Config.Journal.Bytes}, Trail: p.Trail,
		Artifacts: artifacts, Dir: p.Config.Data, Database: p.Config.Database, SealingKeys: p.Config.SealingKeys, Conn: conn, Driver: driver, Logger: p.Logger.With("plane", Control), Provisioning: p.Config.Provisioning, Version: p.Version,
		Joining: &control.Joining{Authority: authority, URI: peer.URI, Name: peer.Name, Servers: []string{linkAt}, Routes: []string{clusterAt}, Own: p.Config.Hosts, Cut: server.Cut},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, built.Close()) }()
	plane.Store(built)
	shown, err := p.tls(authority.ServerTLS())
	if err != nil {
		return err
	}
	from, err := inbound.Parse(p.Config.AllowFrom)
	if err != nil {
		return err
	}
	config := shown.Clone()
	config.NextProtos = []string{"h2", "http/1.1"}
	return tasks.Run(ctx,
		tasks.Task{Name: "control", Run: built.Run},
		tasks.Task{Name: "https", Run: func(ctx context.Context) error {
			return p.serveHTTP(ctx, tls.NewListener(from.Listen(secured, inbound.People, inbound.Metrics), config), people(built, from))
		}},
		tasks.Task{Name: "http", Run: func(ctx context.Context) error { return p.serveHTTP(ctx, plain, people(built, nil)) }},
		tasks.Task{Name: "ready", Run: func(context.Context) error {
			token, err := p.keepToken(built.AdminToken())
			if err != nil {
				return err
			}
			return p.ready(Ready{
				HTTPS: secured.Addr().(*net.TCPAddr).Port, Console: "http://" + plain.Addr().String(), API: api,
				Link: linkAt, Cluster: clusterAt, CA: authority.File(), AdminToken: token, TokenFile: filepath.Join(p.Config.Data, tokenFile),
			})
		}},
	)
}

func days(n float64) time.Duration { return time.Duration(n * 24 * float64(time.Hour)) }

// reachable is where others reach a server: as the configuration says, or on
// the process's first host.
func (p *process) reachable(advertised, bound string) string {
	if advertised != "" || bound == "" {
		return advertised
	}
	host, text, err := net.SplitHostPort(bound)
	if err != nil {
		return bound
	}
	port, err := strconv.Atoi(text)
	if ip := net.ParseIP(host); err != nil || ip != nil && !ip.IsUnspecified() {
		return bound
	}
	return at(p.Config.Hosts[0], port)
}

// listenControl opens the doors for people and programs.
func (p *process) listenControl() (secured, plain net.Listener, err error) {
	if secured, err = net.Listen("tcp", p.Config.Listen.HTTPS); err != nil {
		return nil, nil, fmt.Errorf("listen.https: %w", err)
	}
	if plain, err = net.Listen("tcp", p.Config.Listen.HTTP); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("listen.http: %w", err), secured.Close())
	}
	return secured, plain, nil
}

// people serves API and console.
func people(plane *control.Plane, from inbound.Lists) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/healthz" || r.URL.Path == "/readyz" || strings.HasPrefix(r.URL.Path, "/api/"):
			from.Handle(inbound.People, plane.APIHandler()).ServeHTTP(w, r)
			return
		case r.URL.Path == metrics.Path || strings.HasPrefix(r.URL.Path, "/prometheus/"):
			from.Handle(inbound.Metrics, plane.MonitorHandler()).ServeHTTP(w, r)
			return
		}
		from.Handle(inbound.People, plane.ConsoleHandler()).ServeHTTP(w, r)
	})
}

// tokenFile holds the token made at first start.
const tokenFile = "admin-token"

// keepToken writes the first token down for the owner of the data directory.
func (p *process) keepToken(fresh string) (string, error) {
	file := filepath.Join(p.Config.Data, tokenFile)
	if fresh != "" {
		return fresh, os.WriteFile(file, []byte(fresh+"\n"), 0o600)
	}
	kept, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(kept)), err
}

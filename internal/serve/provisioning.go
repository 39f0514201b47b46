package serve

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/entrance"
	"github.com/slipway/slipway/internal/inbound"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/peer"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning"
	"github.com/slipway/slipway/internal/tasks"
)

// provisioning runs the provisioning plane. It holds a server of the link as
// well, so that it reaches stamps while control is down.
func (p *process) provisioning(ctx context.Context) (err error) {
	identity, err := p.join(ctx, link.ProvisioningPeer)
	if err != nil {
		return err
	}
	ca, err := p.keepCA(identity)
	if err != nil {
		return err
	}
	_, routes := identity.Servers()
	var running atomic.Pointer[provisioning.Plane]
	server, err := bus.Start(ctx, bus.Options{Name: link.ProvisioningPeer, Logger: p.Logger, Door: &bus.Door{
		Listen: p.Config.Link.Listen, Advertise: p.advertised(), Cluster: p.Config.Link.Cluster, Routes: routes, TLS: identity.LinkTLS(),
		Peer: func(certificate *x509.Certificate) (string, error) {
			if plane := running.Load(); plane != nil && plane.Revoked(certificate.SerialNumber.Text(16)) {
				return "", problem.New(problem.Denied, "the certificate was revoked")
			}
			return peer.Name(certificate)
		},
	}})
	if err != nil {
		return err
	}
	defer server.Stop()
	conn, err := server.Connect(link.ProvisioningPeer)
	if err != nil {
		return err
	}
	defer conn.Close()
	guard, err := outbound.New(p.Config.Networks)
	if err != nil {
		return err
	}
	shown, err := p.tls(identity.ServerTLS())
	if err != nil {
		return err
	}
	from, err := inbound.Parse(p.Config.AllowFrom)
	if err != nil {
		return err
	}
	var door *entrance.Entrance
	door = entrance.New(entrance.Options{
		TLS: shown, From: from, Shared: deviceDoors, Logger: p.Logger.With("part", "entrance"),
		MQTT: func(connect *mqtt.Connect) (entrance.Serve, bool) { return running.Load().ServeMQTT, true },
		AMQP: func(string) (entrance.ServeAMQP, bool) { return nil, false },
		HTTPS: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if entrance.IsWebSocket(r.URL.Path) {
				door.ServeWebSocket(w, r)
				return
			}
			p.serveProvisioning(running.Load(), from, w, r)
		}),
	})
	ports, err := p.listen(door)
	if err != nil {
		return err
	}
	plane, err := provisioning.New(ctx, provisioning.Options{
		Dir: p.Config.Data, Database: p.Config.Database, SealingKeys: p.Config.SealingKeys, Version: p.Version, Conn: conn, Logger: p.Logger.With("plane", Provisioning), Guard: guard, Cut: server.Cut,
		Hosts: func() []string { return p.names(ports)[1:] },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Close()) }()
	running.Store(plane)
	return tasks.Run(ctx,
		tasks.Task{Name: "entrance", Run: door.Run},
		tasks.Task{Name: "provisioning", Run: plane.Run},
		tasks.Task{Name: "trail", Run: p.say(conn, link.ProvisioningPeer)},
		tasks.Task{Name: "certificate", Run: p.keepRenewed(identity)},
		tasks.Task{Name: "ready", Run: func(context.Context) error {
			return p.ready(Ready{
				HTTPS: ports.HTTPS, MQTTS: ports.MQTT, IDScope: plane.IDScope(), CA: ca,
				Link: p.reachable(p.Config.Link.Advertise, server.Address()), Cluster: p.reachable("", server.ClusterAddress()),
			})
		}},
	)
}

// advertised is where stamps reach this process's server, if the port is known
// before it is bound.
func (p *process) advertised() string {
	_, port, err := splitAddress("link.listen", p.Config.Link.Listen)
	if p.Config.Link.Advertise != "" || err != nil || port == 0 {
		return p.Config.Link.Advertise
	}
	return at(p.Config.Hosts[0], port)
}

func (p *process) serveProvisioning(plane *provisioning.Plane, from inbound.Lists, w http.ResponseWriter, r *http.Request) {
	scope := "/" + plane.IDScope() + "/"
	switch {
	case r.URL.Path == "/healthz":
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Path == metrics.Path:
		from.Handle(inbound.Metrics, metrics.Guarded(plane.MetricsHandler(), plane.LetIn)).ServeHTTP(w, r)
	case len(r.URL.Path) > len(scope) && strings.EqualFold(r.URL.Path[:len(scope)], scope):
		from.Handle(inbound.Devices, plane.HTTPHandler()).ServeHTTP(w, r)
	default:
		from.Handle(inbound.Devices, plane.ServiceHandler()).ServeHTTP(w, r)
	}
}

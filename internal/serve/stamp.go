package serve

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/entrance"
	"github.com/slipway/slipway/internal/inbound"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/peer"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp"
	"github.com/slipway/slipway/internal/stamp/ddi"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/hubmqtt"
	"github.com/slipway/slipway/internal/stamp/telemetry"
	"github.com/slipway/slipway/internal/tasks"
)

// stamp runs one stamp. It serves the devices it has whether or not the link
// is there.
func (p *process) stamp(ctx context.Context) (err error) {
	as := link.StampPeer(p.Config.Name)
	identity, err := p.join(ctx, as)
	if err != nil {
		return err
	}
	ca, err := p.keepCA(identity)
	if err != nil {
		return err
	}
	servers, _ := identity.Servers()
	conn, err := bus.Dial(bus.Dialing{Peer: as, Process: as, Servers: servers, TLS: identity.LinkTLS(), Logger: p.Logger, Discovered: func(found []string) {
		if err := identity.Learn(found); err != nil {
			p.Logger.Warn("servers of the link were not kept", "error", err)
		}
	}})
	if err != nil {
		return err
	}
	defer conn.Close()
	guard, err := outbound.New(p.Config.Networks)
	if err != nil {
		return err
	}
	limits, retention := hub.DefaultLimits, telemetry.DefaultRetention
	limits.ConnectRate, limits.ConnectBurst = p.Config.Limits.ConnectsPerSecond, max(1, int(p.Config.Limits.ConnectsPerSecond))
	limits.MessageRate, limits.Operations = p.Config.Limits.MessagesPerSecond, p.Config.Operations
	retention.TelemetryBytes, retention.TelemetryAge = p.Config.Limits.TelemetryBytes, time.Duration(p.Config.Limits.TelemetryHours*float64(time.Hour))
	built, err := stamp.New(ctx, stamp.Options{
		Together: p.together(identity), Version: p.Version,
		Connections: entrance.Connections(p.Config.Limits.Connections),
		Name:        p.Config.Name, Dir: p.Config.Data, Database: p.Config.Database, SealingKeys: p.Config.SealingKeys, Link: conn, Limits: limits, Retention: retention,
		Guard: guard, Archive: filepath.Join(cmp.Or(p.Config.Cluster.Files, p.Config.Data), "archive"), Logger: p.Logger.With("plane", Stamp), Now: p.now,
		UpdateClients: ddi.Settings{
			Poll: time.Duration(p.Config.UpdateClients.PollSeconds) * time.Second, Hardware: p.Config.UpdateClients.Hardware, Versions: p.Config.UpdateClients.Versions,
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, built.Close()) }()
	shown, err := p.tls(identity.ServerTLS())
	if err != nil {
		return err
	}
	from, err := inbound.Parse(p.Config.AllowFrom)
	if err != nil {
		return err
	}
	door := p.stampDoor(built, entrance.Options{TLS: shown, From: from, Shared: deviceDoors, MaxConnections: p.Config.Limits.Connections, MaxSockets: p.Config.Limits.Sockets, Logger: p.Logger.With("part", "entrance")})
	ports, err := p.listen(door)
	if err != nil {
		return err
	}
	built.SetHosts(p.names(ports))
	built.SetTold(p.told(ports))
	built.SetSockets(door.Open, p.Config.Limits.Sockets)
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { built.Retire(); stop() })()
	return tasks.Run(working,
		tasks.Task{Name: "entrance", Run: door.Run},
		tasks.Task{Name: "stamp", Run: built.Run},
		tasks.Task{Name: "trail", Run: p.say(conn, as)},
		tasks.Task{Name: "certificate", Run: p.keepRenewed(identity)},
		tasks.Task{Name: "ready", Run: func(context.Context) error {
			return p.ready(Ready{HTTPS: ports.HTTPS, MQTTS: ports.MQTT, AMQPS: ports.AMQP, CA: ca})
		}},
	)
}

// together is how the process meets the others of its stamp.
func (p *process) together(identity *peer.Identity) *stamp.Together {
	c := p.Config.Cluster
	if len(c.NATS.Servers) == 0 {
		return nil
	}
	t := &stamp.Together{Process: c.Process, Files: c.Files, NATS: bus.External{
		Servers: c.NATS.Servers, Credentials: c.NATS.Credentials, CA: c.NATS.CA, Certificate: c.NATS.Certificate, Key: c.NATS.Key, Replicas: c.NATS.Replicas,
	}}
	if c.NATS.Listen == "" {
		return t
	}
	t.NATS.Servers, t.NATS.Own = nil, &bus.Options{
		Name: c.Process, Dir: filepath.Join(p.Config.Data, "jetstream"), Logger: p.Logger,
		Cluster: &bus.Cluster{Name: p.Config.Name, Listen: c.NATS.Listen, Advertise: c.NATS.of(p.Config.Hosts)[0], Servers: c.NATS.Servers, TLS: identity.ClusterTLS()},
	}
	return t
}

// serveReady tells a balancer whether devices may be sent here.
func serveReady(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, problem.Of(err).Message, http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// stampDoor lets devices and back ends in to the one stamp there is. By which
// name they came, the stamp's edges look at.
// deviceDoors are those behind HTTPS where devices are served; MQTT and AMQP
// come over WebSocket.
var deviceDoors = []inbound.Door{inbound.Devices, inbound.MQTT, inbound.AMQP, inbound.Metrics}

func (p *process) stampDoor(built *stamp.Stamp, o entrance.Options) *entrance.Entrance {
	var door *entrance.Entrance
	shown := o.From.Handle(inbound.Metrics, metrics.Guarded(built.MetricsHandler(), built.LetIn))
	devices := o.From.Handle(inbound.Devices, built.HTTPHandler())
	o.MQTT = func(connect *mqtt.Connect) (entrance.Serve, bool) {
		user, err := hubmqtt.ParseUser(connect.Username)
		if err != nil {
			return nil, false
		}
		return func(ctx context.Context, conn *mqtt.Conn, connect *mqtt.Connect) {
			built.Serve(ctx, conn, connect, user)
		}, true
	}
	o.AMQP = func(string) (entrance.ServeAMQP, bool) { return built.ServeAMQP, true }
	o.HTTPS = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case entrance.IsWebSocket(r.URL.Path):
			door.ServeWebSocket(w, r)
		case r.URL.Path == "/healthz":
			w.WriteHeader(http.StatusNoContent)
		case r.URL.Path == metrics.Path:
			shown.ServeHTTP(w, r)
		case r.URL.Path == "/readyz":
			serveReady(w, built.Ready())
		default:
			devices.ServeHTTP(w, r)
		}
	})
	door = entrance.New(o)
	return door
}

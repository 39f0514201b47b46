// Package serve runs one plane in a process of its own: control, provisioning
// or a stamp, by a configuration file. Provisioning and stamps join control
// once with a token and reach it over the link from then on; what `slipway up`
// runs in one process are the same planes.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control"
	"github.com/slipway/slipway/internal/datadir"
	"github.com/slipway/slipway/internal/entrance"
	"github.com/slipway/slipway/internal/httpserve"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/trail"
)

// Options are what Run needs beside the configuration.
type Options struct {
	Config    Config
	JoinToken string // from the environment; the file's own goes first
	ReadyFile string // where to write Ready as JSON
	Version   string // of the program
	Logger    *slog.Logger
	Trail     *trail.Trail // what the process says, for control; nil is nothing
	Ready     func(Ready)
}

// Ready tells where a process is.
type Ready struct {
	Plane   string `json:"plane"`
	Name    string `json:"name,omitempty"`
	Host    string `json:"host"`
	HTTPS   int    `json:"https"`
	MQTTS   int    `json:"mqtts,omitempty"`
	AMQPS   int    `json:"amqps,omitempty"`
	Console string `json:"console,omitempty"`
	API     string `json:"api,omitempty"`
	Link    string `json:"link,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	IDScope string `json:"idScope,omitempty"`
	CA      string `json:"ca,omitempty"`
	// AdminToken is control's first token, of the first start.
	AdminToken string `json:"adminToken,omitempty"`
	TokenFile  string `json:"tokenFile,omitempty"` // where it is kept
	DataDir    string `json:"dataDir"`
	PID        int    `json:"pid"`
}

// process is what the planes have in common.
type process struct {
	Options
	now func() time.Time
}

// Run runs the plane that the configuration names until ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	unlock, err := datadir.Lock(o.Config.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	p := &process{o, time.Now}
	if o.Config.Standby {
		if err := p.standBy(ctx); err != nil {
			return err
		}
	}
	switch o.Config.Plane {
	case Control:
		return p.control(ctx)
	case Provisioning:
		return p.provisioning(ctx)
	}
	return p.stamp(ctx)
}

// standBy waits until nobody works on the database. It listens nowhere
// meanwhile, so that nobody is sent here.
func (p *process) standBy(ctx context.Context) error {
	if err := p.checkCopies(); err != nil {
		return err
	}
	p.Logger.Info("standing by", "database", sqldb.Shown(p.Config.Database))
	err := sqldb.Await(ctx, p.Config.Database)
	if err == nil {
		p.Logger.Info("nobody works on the database; taking over")
	}
	return err
}

// checkCopies says what a standby lacks of the first process: with an authority
// of its own nobody would know it, and with other keys it could not sign, or
// read what is sealed. Better now than when it is needed.
func (p *process) checkCopies() error {
	var needed []string
	if p.Config.Plane == Control {
		needed = append(needed, control.CopiedFiles...)
	}
	if p.Config.SealingKeys == "" {
		needed = append(needed, seal.FileName)
	}
	for _, name := range needed {
		if _, err := os.Stat(filepath.Join(p.Config.Data, name)); err != nil {
			return problem.New(problem.Invalid, "a standby of %s needs a copy of the first process's %s: %s", p.Config.Plane, strings.Join(needed, ", "), err)
		}
	}
	return nil
}

// say gives control what the process says, as a peer of the link.
func (p *process) say(conn *bus.Conn, peer string) func(context.Context) error {
	return func(ctx context.Context) error {
		if p.Trail == nil {
			<-ctx.Done()
			return nil
		}
		return p.Trail.Tell(ctx, p.Config.Cluster.Process, func(ctx context.Context, t link.Trail) error {
			_, err := bus.Ask(ctx, conn, link.ControlPeer, bus.In(link.TrailPut, peer), t)
			return err
		})
	}
}

// ready says that the process serves.
func (p *process) ready(r Ready) error {
	r.Plane, r.Name, r.Host, r.DataDir, r.PID = p.Config.Plane, p.Config.Name, p.Config.Hosts[0], p.Config.Data, os.Getpid()
	for _, file := range []string{filepath.Join(p.Config.Data, "ready.json"), p.ReadyFile} {
		if file == "" {
			continue
		}
		if err := datadir.WriteJSON(file, r); err != nil {
			return fmt.Errorf("ready file: %w", err)
		}
	}
	p.Logger.Info("ready", "plane", r.Plane, "stamp", r.Name, "version", p.Version)
	if p.Ready != nil {
		p.Ready(r)
	}
	return nil
}

// tls is how devices and people are met: with the certificate of the
// configuration, or that of the installation.
func (p *process) tls(own *tls.Config) (*tls.Config, error) {
	if p.Config.TLS.Certificate == "" {
		return own, nil
	}
	f, err := openFiles(p.Config.TLS, p.Logger, p.now)
	if err != nil {
		return nil, err
	}
	config := own.Clone()
	config.GetCertificate = f.get
	return config, nil
}

// listen opens the doors of provisioning or a stamp.
func (p *process) listen(door *entrance.Entrance) (entrance.Ports, error) {
	host, https, err := splitAddress("listen.https", p.Config.Listen.HTTPS)
	if err != nil {
		return entrance.Ports{}, err
	}
	mqttHost, mqtts, err := splitAddress("listen.mqtts", p.Config.Listen.MQTTS)
	if err != nil {
		return entrance.Ports{}, err
	}
	if mqttHost != host {
		return entrance.Ports{}, invalid("listen.mqtts", "is on %s and listen.https on %s; both must be on the same address", mqttHost, host)
	}
	amqps, anyAMQP := 0, true
	if p.Config.Listen.AMQPS != "" {
		amqpHost, port, err := splitAddress("listen.amqps", p.Config.Listen.AMQPS)
		if err != nil {
			return entrance.Ports{}, err
		}
		if amqpHost != host && p.Config.Listen.AMQPS != defaultAMQPS {
			return entrance.Ports{}, invalid("listen.amqps", "is on %s and listen.https on %s; both must be on the same address", amqpHost, host)
		}
		amqps, anyAMQP = port, false
	}
	return door.Listen(host, entrance.Ports{MQTT: mqtts, HTTPS: https, AMQP: amqps, AnyAMQP: anyAMQP})
}

// names are all names that devices may use for the process in a user name or a
// token.
func (p *process) names(ports entrance.Ports) []string {
	names := []string{p.Config.Name}
	for _, host := range p.Config.Hosts {
		names = append(names, host, at(host, ports.MQTT), at(host, ports.HTTPS))
	}
	return names
}

func at(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// usualMQTTS is the port devices assume where the host they are told bears none.
const usualMQTTS = 8883

// told is the host as devices are told it.
func (p *process) told(ports entrance.Ports) string {
	if ports.MQTT == usualMQTTS {
		return p.Config.Hosts[0]
	}
	return at(p.Config.Hosts[0], ports.MQTT)
}

// serveHTTP serves until ctx ends.
func (p *process) serveHTTP(ctx context.Context, l net.Listener, handler http.Handler) error {
	server := httpserve.Server(handler, p.Logger)
	stop := context.AfterFunc(ctx, func() {
		if err := server.Close(); err != nil {
			p.Logger.Debug("http closed", "error", err)
		}
	})
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Package up assembles a whole installation in one process: control,
// provisioning and every stamp, over one data directory, behind shared
// listeners. It is what `slipway up` runs; the planes are the same ones that
// run alone elsewhere.
package up

import (
	"context"
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
	"github.com/slipway/slipway/internal/ca"
	"github.com/slipway/slipway/internal/control"
	"github.com/slipway/slipway/internal/datadir"
	"github.com/slipway/slipway/internal/entrance"
	"github.com/slipway/slipway/internal/httpserve"
	"github.com/slipway/slipway/internal/inbound"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/ddi"
	"github.com/slipway/slipway/internal/stamp/hubmqtt"
	"github.com/slipway/slipway/internal/tasks"
	"github.com/slipway/slipway/internal/trail"
	"github.com/slipway/slipway/internal/vault"
)

// Options are the flags of `slipway up`.
type Options struct {
	Data     string // directory of everything that must survive a restart
	Database string // URL of PostgreSQL, with a schema for each plane and stamp; empty means SQLite in Data
	// SealingKeys says where the keys come from that seal the databases' secrets;
	// empty is a file of its own beside each.
	SealingKeys string
	Demo        int      // simulated devices
	Files       []string // resources to apply at start
	HTTP        string   // console and API without TLS; on loopback unless a host is named
	HTTPS       string   // console, API and device HTTPS
	MQTTS       string   // device MQTT
	AMQPS       string   // back-end AMQP; empty is the usual port, or any where MQTTS asks for any
	From        []string // DOOR=NETWORK: from where the doors may be used, but for HTTP; see inbound.ParseFlags
	Networks    []string // private networks that routes, webhooks and gates may reach
	// UpdatePoll is how long update clients wait before they look again; 0 is as
	// usual.
	UpdatePoll time.Duration
	Backups    string // file that says where backups are kept; empty is none
	// Inspect has the installation connect to nothing outside, calls this once it
	// is ready, and ends it then: how a restored one is looked at.
	Inspect    func(ctx context.Context, within Within) error
	Prometheus string           // URL of what gates ask that name none; may be empty
	Witnesses  []string         // files and URLs that keep the checkpoints of the audit log
	Provider   control.Provider // vouches for people, if it names an issuer
	ReadyFile  string           // where to write Ready as JSON
	Version    string           // of the program
	Logger     *slog.Logger
	Probes     time.Duration // how often each stamp is tried as by a device; 0 is never
	Trail      *trail.Trail  // what the process says, for the journal; nil is nothing
	Ready      func(Ready)
}

// Ready tells where everything is, in the shape scripts rely on.
type Ready struct {
	Console      string         `json:"console"`
	API          string         `json:"api"`
	AdminToken   string         `json:"adminToken"`
	CA           string         `json:"ca"`
	Provisioning ReadyProvision `json:"provisioning"`
	Stamps       []ReadyStamp   `json:"stamps"`
	FirstStart   bool           `json:"firstStart"`
	DataDir      string         `json:"dataDir"`
	Demo         int            `json:"demo"`
	TokenFile    string         `json:"tokenFile"`
}

// ReadyProvision is where devices register.
type ReadyProvision struct {
	Host    string `json:"host"`
	MQTTS   int    `json:"mqtts"`
	HTTPS   int    `json:"https"`
	IDScope string `json:"idScope"`
}

// ReadyStamp is where a stamp's devices connect.
type ReadyStamp struct {
	Name        string `json:"name"`
	Environment string `json:"environment"`
	Region      string `json:"region"`
	Host        string `json:"host"`
	MQTTS       int    `json:"mqtts"`
	HTTPS       int    `json:"https"`
	AMQPS       int    `json:"amqps"`
}

// Run starts the installation, calls o.Ready when devices can register and
// people can log in, and runs it until ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	unlock, err := datadir.Lock(o.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	in := &installation{Options: o}
	defer func() { err = errors.Join(err, in.close()) }()
	if err := in.build(ctx); err != nil {
		return err
	}
	if err := in.run(ctx); !errors.Is(err, errInspected) {
		return err
	}
	return nil
}

// run runs everything until ctx ends. Stamps go last: provisioning and control
// still ask them while they finish what is under way.
func (in *installation) run(ctx context.Context) error {
	working, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { in.stamps.retire(); cancel(nil) })()
	stamps, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() {
		err := in.stamps.Run(stamps)
		if err != nil {
			cancel(err)
		}
		ended <- err
	}()
	err := tasks.Run(working,
		tasks.Task{Name: "entrance", Run: in.entrance.Run},
		tasks.Task{Name: "http", Run: in.serveHTTP},
		tasks.Task{Name: "provisioning", Run: in.provisioning.Run},
		tasks.Task{Name: "control", Run: in.control.Run},
		tasks.Task{Name: "ready", Run: in.becomeReady},
	)
	stop()
	return errors.Join(err, <-ended)
}

// installation is everything `up` runs, in the order it was built.
type installation struct {
	Options
	ca           *ca.Authority
	link         *bus.Server
	conns        []*bus.Conn
	entrance     *entrance.Entrance
	provisioning *provisioning.Plane
	stamps       *localStamps
	guard        *outbound.Guard
	from         inbound.Lists
	control      *control.Plane
	http         net.Listener
	mqttHost     string // what provisioning is reached by
	everywhere   bool   // the ports are open on every address of the machine
	ports        entrance.Ports
	token        string
	first        bool
}

const loopback = "127.0.0.1"

// defaultAMQPS is the port that back-end SDKs insist on.
const defaultAMQPS = "5671"

func (in *installation) build(ctx context.Context) (err error) {
	if in.ca, err = ca.Open(in.Data, time.Now); err != nil {
		return err
	}
	in.ca.Name("localhost", loopback)
	if in.link, err = bus.Start(ctx, bus.Options{Name: "link", Logger: in.Logger}); err != nil {
		return err
	}
	if in.from, err = inbound.ParseFlags(in.From); err != nil {
		return problem.Of(err).At("--allow-from")
	}
	in.entrance = entrance.New(entrance.Options{
		From: in.from, Shared: inbound.Doors, // MQTT and AMQP, too, over WebSocket
		TLS: in.ca.ServerTLS(), MQTT: in.route, AMQP: in.routeAMQP, HTTPS: http.HandlerFunc(in.serveHTTPS), Logger: in.Logger.With("part", "entrance"),
	})
	if in.guard, err = outbound.New(in.Networks); err != nil {
		return err
	}
	if in.Inspect != nil {
		in.guard = outbound.Closed()
	}
	if in.Prometheus != "" {
		if err := resource.CheckURL(in.Prometheus); err != nil {
			return problem.Of(err).At("--prometheus")
		}
	}
	if _, err := seal.ParseSource(in.SealingKeys, in.Data); err != nil {
		return problem.Of(err).At("--sealing-keys")
	}
	if err := (control.Witnesses{At: in.Witnesses}).Check(); err != nil {
		return problem.Of(err).At("--audit-witness")
	}
	if err := in.listen(); err != nil {
		return err
	}
	if err := in.buildProvisioning(ctx); err != nil {
		return err
	}
	if in.stamps, err = in.newLocalStamps(); err != nil {
		return err
	}
	return in.buildControl(ctx)
}

// listen binds the ports of provisioning, control and console. An HTTPS or
// MQTT address without a host means loopback: beyond it, name one.
func (in *installation) listen() error {
	host, mqttPort, err := splitAddress("--mqtts", in.MQTTS)
	if err != nil {
		return err
	}
	_, httpsPort, err := splitAddress("--https", in.HTTPS)
	if err != nil {
		return err
	}
	in.mqttHost = host
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		in.everywhere, in.mqttHost = true, loopback
	}
	in.ca.Name(in.mqttHost)
	anyAMQP := in.AMQPS == ""
	if anyAMQP {
		in.AMQPS = net.JoinHostPort(host, defaultAMQPS)
		if mqttPort == 0 {
			in.AMQPS = net.JoinHostPort(host, "0")
		}
	}
	_, amqpPort, err := splitAddress("--amqps", in.AMQPS)
	if err != nil {
		return err
	}
	if in.ports, err = in.entrance.Listen(host, entrance.Ports{MQTT: mqttPort, HTTPS: httpsPort, AMQP: amqpPort, AnyAMQP: anyAMQP}); err != nil {
		return err
	}
	plainHost, plainPort, err := splitAddress("--http", in.HTTP)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(plainHost); plainHost != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return problem.New(problem.Invalid, "the address is not TLS, so it must be on loopback, not on %s; use --https for other machines", plainHost).At("--http")
	}
	if in.http, err = net.Listen("tcp", net.JoinHostPort(plainHost, strconv.Itoa(plainPort))); err != nil {
		return fmt.Errorf("--http: %w", err)
	}
	return nil
}

func splitAddress(flag, address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, problem.New(problem.Invalid, "an address reads host:port or :port, not %q", address).At(flag)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, problem.New(problem.Invalid, "a port is a number from 0 to 65535, not %q", text).At(flag)
	}
	if host == "" {
		host = loopback
	}
	return host, port, nil
}

func (in *installation) connect(name string) (*bus.Conn, error) {
	conn, err := in.link.Connect(name)
	if err == nil {
		in.conns = append(in.conns, conn)
	}
	return conn, err
}

// database is where a plane or stamp keeps its records, empty for its directory.
func (in *installation) database(schema string) (string, error) {
	if in.Database == "" {
		return "", nil
	}
	at, err := sqldb.InSchema(in.Database, schema)
	if err != nil {
		return "", problem.Of(err).At("--database")
	}
	return at, nil
}

func (in *installation) buildProvisioning(ctx context.Context) error {
	conn, err := in.connect("provisioning")
	if err != nil {
		return err
	}
	at, err := in.database("provisioning")
	if err != nil {
		return err
	}
	in.provisioning, err = provisioning.New(ctx, provisioning.Options{Dir: filepath.Join(in.Data, "provisioning"), Database: at, SealingKeys: in.SealingKeys, Version: in.Version, Conn: conn, Logger: in.Logger.With("plane", "provisioning"), Hosts: in.provisioningHosts, Guard: in.guard})
	return err
}

// provisioningHosts are the names back ends may use for provisioning.
func (in *installation) provisioningHosts() []string {
	return []string{in.mqttHost, "localhost", net.JoinHostPort(in.mqttHost, strconv.Itoa(in.ports.HTTPS)), net.JoinHostPort("localhost", strconv.Itoa(in.ports.HTTPS))}
}

func (in *installation) buildControl(ctx context.Context) error {
	conn, err := in.connect("control")
	if err != nil {
		return err
	}
	at, err := in.database("control")
	if err != nil {
		return err
	}
	var provider *control.Provider
	if in.Provider.Issuer != "" && in.Inspect == nil {
		if provider, err = control.OpenProvider(in.Provider, "oidc"); err != nil {
			return err
		}
	}
	backups, err := in.backups()
	if err != nil {
		return err
	}
	probes := control.Probe{Every: in.Probes, Provisioning: net.JoinHostPort(in.mqttHost, strconv.Itoa(in.ports.MQTT)), CA: in.ca.Pool()}
	if in.Inspect != nil {
		probes.Every = 0
	}
	if err := probes.Check("--probes"); err != nil {
		return err
	}
	in.control, err = control.New(ctx, control.Options{
		Probe:   probes,
		Backups: backups, Root: in.Data, Trail: in.Trail,
		Dir: filepath.Join(in.Data, "control"), Database: at, SealingKeys: in.SealingKeys, Conn: conn, Driver: in.stamps, Logger: in.Logger.With("plane", "control"),
		Provisioning: net.JoinHostPort(in.mqttHost, strconv.Itoa(in.ports.MQTT)), Version: in.Version, Guard: in.guard, Prometheus: in.Prometheus, Provider: provider,
		Address: "https://" + net.JoinHostPort(in.mqttHost, strconv.Itoa(in.ports.HTTPS)), Witnesses: control.Witnesses{At: in.Witnesses},
	})
	if err != nil {
		return err
	}
	return in.keepToken()
}

// backups says where backups are kept.
func (in *installation) backups() (control.BackupConfig, error) {
	if in.Backups == "" {
		return control.BackupConfig{}, nil
	}
	config, err := vault.ReadConfig(in.Backups)
	if err != nil {
		return control.BackupConfig{}, err
	}
	vaults, err := vault.Specs(config.Vaults, filepath.Dir(in.Backups))
	if err != nil {
		return control.BackupConfig{}, problem.Of(err).At(in.Backups)
	}
	return control.BackupConfig{Vaults: vaults, Recipients: config.Recipients, Rate: config.BytesPerSecond}, nil
}

// TokenFile is the name of the file in the data directory that holds the token
// made at first start.
const TokenFile = "admin-token"

// keepToken writes the first token down for the owner of the data directory.
func (in *installation) keepToken() error {
	file := filepath.Join(in.Data, TokenFile)
	if in.token = in.control.AdminToken(); in.token != "" {
		in.first = true
		return os.WriteFile(file, []byte(in.token+"\n"), 0o600)
	}
	kept, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	in.token = strings.TrimSpace(string(kept))
	return err
}

// route finds whom a CONNECT is for: provisioning when its user name says so,
// otherwise the stamp whose host it names.
func (in *installation) route(connect *mqtt.Connect) (entrance.Serve, bool) {
	if parts := strings.SplitN(connect.Username, "/", 3); len(parts) == 3 && strings.EqualFold(parts[1], "registrations") {
		return in.provisioning.ServeMQTT, true
	}
	user, err := hubmqtt.ParseUser(connect.Username)
	if err != nil {
		return nil, false
	}
	local := in.stamps.byHost(user.Host)
	if local == nil {
		return nil, false
	}
	return func(ctx context.Context, conn *mqtt.Conn, connect *mqtt.Connect) {
		local.stamp.Serve(ctx, conn, connect, user)
	}, true
}

// routeAMQP finds the stamp a connection is for.
func (in *installation) routeAMQP(hostname string) (entrance.ServeAMQP, bool) {
	local := in.stamps.byHost(hostname)
	if local == nil {
		return nil, false
	}
	return local.stamp.ServeAMQP, true
}

// serveHTTPS tells the planes apart by path; devices' paths begin with the
// id scope.
func (in *installation) serveHTTPS(w http.ResponseWriter, r *http.Request) {
	if entrance.IsWebSocket(r.URL.Path) {
		in.entrance.ServeWebSocket(w, r)
		return
	}
	if scope := "/" + in.provisioning.IDScope() + "/"; len(r.URL.Path) > len(scope) && strings.EqualFold(r.URL.Path[:len(scope)], scope) {
		in.from.Handle(inbound.Devices, in.provisioning.HTTPHandler()).ServeHTTP(w, r)
		return
	}
	if local := in.stamps.byHost(r.Host); local != nil && r.URL.Path == metrics.Path {
		in.from.Handle(inbound.Metrics, metrics.Guarded(local.stamp.MetricsHandler(), local.stamp.LetIn)).ServeHTTP(w, r)
		return
	}
	if local := in.stamps.byHost(r.Host); local != nil && (within(r.URL.Path, hubPaths) || ddi.IsPath(r.URL.Path)) {
		in.from.Handle(inbound.Devices, local.stamp.HTTPHandler()).ServeHTTP(w, r)
		return
	}
	if within(r.URL.Path, provisioningPaths) && r.Header.Get("Authorization") != "" {
		in.from.Handle(inbound.Devices, in.provisioning.ServiceHandler()).ServeHTTP(w, r)
		return
	}
	door := inbound.People
	if isMetrics(r.URL.Path) {
		door = inbound.Metrics
	}
	in.from.Handle(door, http.HandlerFunc(in.servePeople)).ServeHTTP(w, r)
}

// isMetrics reports whether a path is one that Prometheus or Grafana ask for.
func isMetrics(path string) bool {
	return path == metrics.Path || path == provisioningMetrics || strings.HasPrefix(path, "/prometheus/")
}

// hubPaths and provisioningPaths are the beginnings of the paths of the two
// protocols. The console has an /enrollments too, for people, who come with a
// cookie; back ends come with a token.
var (
	hubPaths          = []string{"/devices", "/twins", "/digitaltwins", "/jobs", "/configurations", "/statistics", "/messages", "/uploads"}
	provisioningPaths = []string{"/enrollments", "/enrollmentGroups", "/registrations"}
)

func within(path string, beginnings []string) bool {
	for _, begin := range beginnings {
		if len(path) >= len(begin) && strings.EqualFold(path[:len(begin)], begin) && (len(path) == len(begin) || path[len(begin)] == '/') {
			return true
		}
	}
	return false
}

// provisioningMetrics is where those of provisioning are, as it shares its
// address with control here.
const provisioningMetrics = metrics.Path + "/provisioning"

// servePeople serves API and console.
func (in *installation) servePeople(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/healthz" || r.URL.Path == "/readyz" || strings.HasPrefix(r.URL.Path, "/api/"):
		in.control.APIHandler().ServeHTTP(w, r)
		return
	case r.URL.Path == provisioningMetrics:
		metrics.Guarded(in.provisioning.MetricsHandler(), in.provisioning.LetIn).ServeHTTP(w, r)
		return
	case isMetrics(r.URL.Path):
		in.control.MonitorHandler().ServeHTTP(w, r)
		return
	}
	in.control.ConsoleHandler().ServeHTTP(w, r)
}

func (in *installation) serveHTTP(ctx context.Context) error {
	server := httpserve.Server(http.HandlerFunc(in.servePeople), in.Logger)
	stop := context.AfterFunc(ctx, func() {
		if err := server.Close(); err != nil {
			in.Logger.Debug("http closed", "error", err)
		}
	})
	defer stop()
	if err := server.Serve(in.http); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// becomeReady applies what the first start or the flags ask for, says that the
// installation is ready, and runs the demo fleet.
func (in *installation) becomeReady(ctx context.Context) error {
	if err := in.applyBlueprint(ctx); err != nil {
		return err
	}
	ready := in.describe()
	if err := datadir.WriteJSON(filepath.Join(in.Data, "ready.json"), ready); err != nil {
		return err
	}
	if in.ReadyFile != "" {
		if err := datadir.WriteJSON(in.ReadyFile, ready); err != nil {
			return fmt.Errorf("ready file: %w", err)
		}
	}
	in.Logger.Info("ready", "plane", "all", "version", in.Version, "api", ready.API, "stamps", len(ready.Stamps))
	if in.Ready != nil {
		in.Ready(ready)
	}
	if in.Inspect != nil {
		return errors.Join(in.Inspect(ctx, in.within(ready)), errInspected)
	}
	return in.runDemo(ctx)
}

func (in *installation) describe() Ready {
	ready := Ready{
		Console: "http://" + in.http.Addr().String(), API: "https://" + net.JoinHostPort(in.mqttHost, strconv.Itoa(in.ports.HTTPS)),
		AdminToken: in.token, CA: in.ca.File(), FirstStart: in.first, DataDir: in.Data, Demo: in.Demo, TokenFile: filepath.Join(in.Data, TokenFile),
		Provisioning: ReadyProvision{in.mqttHost, in.ports.MQTT, in.ports.HTTPS, in.provisioning.IDScope()},
	}
	for _, local := range in.stamps.all() {
		ready.Stamps = append(ready.Stamps, ReadyStamp{local.spec.Name, local.spec.Environment, local.spec.Region, local.host, local.ports.MQTT, local.ports.HTTPS, local.ports.AMQP})
	}
	return ready
}

func (in *installation) close() error {
	var failures []error
	if in.control != nil {
		failures = append(failures, in.control.Close())
	}
	if in.provisioning != nil {
		failures = append(failures, in.provisioning.Close())
	}
	if in.stamps != nil {
		failures = append(failures, in.stamps.close())
	}
	for _, conn := range in.conns {
		conn.Close()
	}
	if in.link != nil {
		in.link.Stop()
	}
	if err := os.Remove(filepath.Join(in.Data, "ready.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

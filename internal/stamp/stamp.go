// Package stamp builds a deployment stamp, one scale unit of an environment,
// and runs it: a hub for its devices, their twins and queues, and its own
// durable log. A stamp has its own database, its own log and its own keys; a
// stamp lost, slow or compromised touches no other.
package stamp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/internal/amqp"
	"github.com/slipway/slipway/internal/backup"
	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/policy"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/command"
	"github.com/slipway/slipway/internal/stamp/configuration"
	"github.com/slipway/slipway/internal/stamp/consumer"
	"github.com/slipway/slipway/internal/stamp/ddi"
	"github.com/slipway/slipway/internal/stamp/delivery"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/endpoint"
	"github.com/slipway/slipway/internal/stamp/feature"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/hubamqp"
	"github.com/slipway/slipway/internal/stamp/hubhttp"
	"github.com/slipway/slipway/internal/stamp/hubmqtt"
	"github.com/slipway/slipway/internal/stamp/job"
	"github.com/slipway/slipway/internal/stamp/migrations"
	"github.com/slipway/slipway/internal/stamp/processor"
	"github.com/slipway/slipway/internal/stamp/software"
	"github.com/slipway/slipway/internal/stamp/telemetry"
	"github.com/slipway/slipway/internal/stamp/tenant"
	"github.com/slipway/slipway/internal/stamp/transfer"
	"github.com/slipway/slipway/internal/stamp/trust"
	"github.com/slipway/slipway/internal/stamp/twin"
	"github.com/slipway/slipway/internal/stamp/upload"
	"github.com/slipway/slipway/internal/tasks"
	"github.com/slipway/slipway/internal/trail"
)

// Options are what a stamp is built from.
type Options struct {
	Name string
	Dir  string // its files and log, and its database unless that is elsewhere
	// Database is a URL of PostgreSQL, or a file; empty means a file in Dir.
	Database string
	// SealingKeys says where the keys come from that seal the database's secrets;
	// empty is a file beside the stamp's other files. See seal.ParseSource.
	SealingKeys string
	Link        *bus.Conn // to the other planes
	Limits      hub.Limits
	// Connections is how many the process lets in, for others to know.
	Connections int
	Retention   telemetry.Retention
	// UpdateClients are the settings for those that speak hawkBit's protocol.
	UpdateClients ddi.Settings
	// Guard says where routes may connect to, Archive is the directory for
	// what they write to files.
	Guard   *outbound.Guard
	Archive string
	// Together is how the process meets the others of its stamp; nil where it is
	// the only one.
	Together *Together
	Version  string // of the program
	Logger   *slog.Logger
	Now      func() time.Time
}

// Stamp is one scale unit.
type Stamp struct {
	name           string
	link           *bus.Conn
	db             *sqldb.DB
	server         *bus.Server // nil where the log is on servers elsewhere
	others         *others     // nil where the process is the only one of the stamp
	gap            chan struct{}
	own            *bus.Conn
	logs           *telemetry.Logs
	policies       *policy.Policies
	trust          *trust.Trust
	configurations *configuration.Engine
	features       *feature.Engine
	software       *software.Engine
	jobs           *job.Runner
	uploads        *upload.Uploads
	transfers      *transfer.Runner
	deliveries     *delivery.Engine
	consumers      *consumer.Groups
	service        *hubhttp.Edge
	serving        http.Handler // service, counted
	updating       http.Handler // updates, counted
	updates        *ddi.Edge
	backEnds       *hubamqp.Edge
	backups        *backup.Taker
	care           *care.Keeper
	hub            *hub.Hub
	edge           *hubmqtt.Edge
	hosts          atomic.Pointer[[]string]
	told           atomic.Pointer[string]
	sockets        atomic.Pointer[func() int64]
	rate           rateMeter
	census, depth  census
	metrics        *metrics.Registry
	limits         link.StampLimits
	version        string
	started        time.Time
	logger         *slog.Logger
}

// New opens the stamp's database and log. It serves nobody before Run.
func New(ctx context.Context, o Options) (*Stamp, error) {
	logger := o.Logger.With("stamp", o.Name)
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("stamp %s: %w", o.Name, err)
	}
	s := &Stamp{name: o.Name, version: o.Version, started: o.Now(), link: o.Link, logger: logger, gap: make(chan struct{}, 1), limits: link.StampLimits{
		Connections: o.Connections, ConnectsPerSecond: o.Limits.ConnectRate, MessagesPerSecond: o.Limits.MessageRate,
		TelemetryBytes: o.Retention.TelemetryBytes, TelemetryHours: o.Retention.TelemetryAge.Hours(),
	}}
	s.hosts.Store(&[]string{})
	s.metrics = metrics.New(o.Version, logger)
	if err := s.open(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("stamp %s: %w", o.Name, err), s.Close())
	}
	if err := o.keepSealed(ctx, s.db); err != nil {
		return nil, errors.Join(fmt.Errorf("stamp %s: %w", o.Name, err), s.Close())
	}
	s.db.Committed(s.metrics.Database())
	twins := twin.NewStore(s.db)
	devices := device.NewDevices(s.db, twins)
	devices.Probe = link.Probe(o.Name)
	err := twins.EnsureIndexed(ctx)
	if err == nil && o.Together == nil {
		err = devices.ResetConnected(ctx, "")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stamp %s: %w", o.Name, err), s.Close())
	}
	if s.policies, err = policy.Open(ctx, s.db, policy.Hub); err != nil {
		return nil, errors.Join(fmt.Errorf("stamp %s: %w", o.Name, err), s.Close())
	}
	quotas, err := tenant.Open(ctx, s.db)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stamp %s: %w", o.Name, err), s.Close())
	}
	if s.trust, err = trust.Open(ctx, s.db); err != nil {
		return nil, errors.Join(fmt.Errorf("stamp %s: %w", o.Name, err), s.Close())
	}
	parts := hub.Parts{
		Trusted: s.trust.DER,
		Quotas:  quotas,
		Stamp:   o.Name, Hosts: func() []string { return *s.hosts.Load() },
		Devices: devices, Policies: s.policies, Twins: twins, Queues: command.NewQueues(s.db), Logs: s.logs,
		Limits: o.Limits, Logger: logger, Now: o.Now, Changed: s.touch, Metrics: s.metrics,
		Turned: s.touchSoftware, Account: func(ctx context.Context, all []device.Activity) error { return s.software.Account(ctx, all) },
	}
	if s.others != nil {
		parts.Others, parts.Process = s.others, s.others.cluster.ID()
	}
	s.hub = hub.New(parts)
	s.configurations = configuration.New(s.db, devices, s.hub, logger)
	s.features = feature.New(s.db, devices, s.hub, logger, o.Now)
	s.software, err = software.Open(ctx, software.Options{
		Stamp: o.Name, DB: s.db, Devices: devices, Twins: s.hub, Dir: filepath.Join(o.files(), "updates"), Control: control{o.Link},
		Notify: s.touchSoftware, Fetched: func() { s.deliveries.Wake() }, Logger: logger, Now: o.Now,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stamp %s: %w", o.Name, err), s.Close())
	}
	s.jobs = job.New(s.db, devices, s.hub, logger, o.Now)
	s.uploads, err = upload.Open(ctx, upload.Options{DB: s.db, Dir: filepath.Join(o.files(), "uploads"), Quota: upload.DefaultQuota, Logger: logger, Now: o.Now})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stamp %s: %w", o.Name, err), s.Close())
	}
	s.deliveries = delivery.New(delivery.Options{
		DB: s.db, Logs: s.logs, Twin: s.twinDocument(twins), Open: endpoint.Open, Wanted: s.hub.WantTwinChanges, Logger: logger, Now: o.Now,
		Program: s.program, Outside: endpoint.Options{Stamp: o.Name, Guard: o.Guard, Archive: o.Archive},
	})
	s.transfers = transfer.New(transfer.Options{DB: s.db, Dir: filepath.Join(o.files(), "transfers"), Client: o.Guard.Client(transfer.Wait), Logger: logger, Now: o.Now})
	s.backups = backup.New(backup.Source{
		Peer: link.StampPeer(o.Name), Version: o.Version, Dir: o.Dir, DB: s.db, Logs: s.logCopies(), Files: lasting(o), Logger: logger, Now: o.Now,
	})
	s.care = s.caring(o)
	s.consumers = consumer.New(o.Name, s.db, s.logs, o.Now)
	s.edge = hubmqtt.New(s.hub, logger)
	s.service = hubhttp.New(hubhttp.Parts{
		Hub: s.hub, Policies: s.policies, Configurations: s.configurations, Jobs: s.jobs, Uploads: s.uploads, Transfers: s.transfers,
		Software: s.software, People: s.person, Logger: logger, Now: o.Now,
	})
	s.updates = ddi.New(ddi.Parts{Hub: s.hub, Engine: s.software, DB: s.db, Settings: o.UpdateClients, Logger: logger, Now: o.Now})
	s.backEnds = hubamqp.New(hubamqp.Parts{Hub: s.hub, Policies: s.policies, Uploads: s.uploads, People: s.person, Logger: logger, Now: o.Now})
	s.metrics.Collect("stamp", s.collect)
	s.serving = trail.HTTP("stamp", s.name, true, s.metrics.HTTP("hub", s.service))
	s.updating = trail.HTTP("stamp", s.name, true, s.metrics.HTTP("updates", s.updates))
	if s.others != nil {
		s.others.announce()
	}
	return s, nil
}

// sealed are the columns of a stamp that hold secrets.
var sealed = slices.Concat(device.Sealed, policy.Sealed, delivery.Sealed, transfer.Sealed)

// keepSealed seals the database's secrets. Processes that share a database
// share its keys, which lie with what else they share.
func (o Options) keepSealed(ctx context.Context, db *sqldb.DB) error {
	source, err := seal.ParseSource(o.SealingKeys, o.files())
	if err != nil {
		return err
	}
	return db.KeepSealed(ctx, source, sealed, o.Now)
}

// files is the directory of what is kept in files, which several processes
// share.
func (o Options) files() string {
	if o.Together != nil {
		return o.Together.Files
	}
	return o.Dir
}

// touch has configurations and releases look at an identity.
func (s *Stamp) touch(id string) {
	if s.others != nil {
		s.others.touch(id)
		return
	}
	s.lookAt(id)
}

func (s *Stamp) lookAt(id string) {
	s.configurations.Touch(id)
	s.features.Touch(id)
	s.software.Touch(id)
}

// touchSoftware has releases look at a device that has connected, or asks for
// its order.
func (s *Stamp) touchSoftware(id string) {
	switch {
	case !s.software.Active():
	case s.others != nil && !s.others.cluster.Leads():
		s.others.touch(id)
	default:
		s.software.Touch(id)
	}
}

// control is where the stamp's software comes from.
type control struct{ link *bus.Conn }

// Artifact is software.Control's.
func (c control) Artifact(ctx context.Context, req link.ReadPart) (link.Part, error) {
	return bus.Ask(ctx, c.link, link.ControlPeer, link.ArtifactRead, req)
}

// Metadata is software.Control's.
func (c control) Metadata(ctx context.Context, req link.ReadPart) (link.Part, error) {
	return bus.Ask(ctx, c.link, link.ControlPeer, link.MetadataRead, req)
}

// twinDocument looks up twins for the conditions and enrichments of routes.
func (s *Stamp) twinDocument(twins *twin.Store) func(context.Context, string) (any, bool) {
	return func(ctx context.Context, id string) (document any, ok bool) {
		t, err := twins.Get(ctx, id)
		if err != nil {
			return nil, false
		}
		view, err := t.ServiceView()
		if err != nil {
			s.logger.Error("a twin cannot be shown", "device", id, "error", err)
			return nil, false
		}
		return document, json.Unmarshal(view, &document) == nil
	}
}

// program prepares the processor of a route, whose file a release has brought.
func (s *Stamp) program(ctx context.Context, p link.Processor) (_ delivery.Program, err error) {
	file, size, err := s.software.Artifact(ctx, p.Artifact.SHA256)
	if problem.Is(err, problem.NotFound) {
		return nil, problem.New(problem.NotReady, "the stamp does not have the processor %s yet", p.Artifact.SHA256)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if size > processor.MaxModule {
		return nil, problem.New(problem.TooLarge, "a processor has at most %d bytes, not %d", processor.MaxModule, size)
	}
	module, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	return processor.Compile(ctx, module, processor.Limits{Memory: p.MemoryMiB, Time: time.Duration(p.TimeoutMillis) * time.Millisecond})
}

// ampleStore bounds nothing: each log bounds itself, and one whose bound is
// lowered must still be opened with what it was before.
const ampleStore = 1 << 50

func (s *Stamp) open(ctx context.Context, o Options) (err error) {
	if o.Together != nil {
		return s.openTogether(ctx, o)
	}
	if s.db, err = sqldb.Open(ctx, cmp.Or(o.Database, filepath.Join(o.Dir, "stamp.db")), migrations.FS); err != nil {
		return err
	}
	s.server, err = bus.Start(ctx, bus.Options{Name: "stamp-" + o.Name, Dir: filepath.Join(o.Dir, "jetstream"), Logger: s.logger,
		MaxStore: ampleStore})
	if err != nil {
		return err
	}
	if s.own, err = s.server.Connect(o.Name); err != nil {
		return err
	}
	return s.openLogs(ctx, o)
}

// openLogs opens the logs, which drop nothing for its age while somebody holds
// what is in them.
func (s *Stamp) openLogs(ctx context.Context, o Options) error {
	plan, _, err := care.ReadPlan(ctx, s.db)
	if err != nil {
		return err
	}
	o.Retention.Held = len(plan.Holds) > 0
	s.logs, err = telemetry.Open(ctx, s.own, o.Name, o.Retention, s.logger)
	return err
}

// openTogether opens what the processes of a stamp share.
func (s *Stamp) openTogether(ctx context.Context, o Options) (err error) {
	if s.db, err = sqldb.OpenShared(ctx, o.Database, migrations.FS); err != nil {
		return err
	}
	nats := o.Together.NATS
	nats.Namespace, nats.Process, nats.Logger, nats.Gap = "slipway-"+o.Name, o.Name+"/"+o.Together.Process, s.logger, s.gapped
	if nats.Own != nil {
		nats.Own.MaxStore = ampleStore
	}
	if s.own, err = bus.Join(ctx, nats); err != nil {
		return err
	}
	if err := s.openLogs(ctx, o); err != nil {
		return err
	}
	return s.meet(ctx, o)
}

// SetHosts says by which names devices reach the stamp; tokens must be for one
// of them.
func (s *Stamp) SetHosts(hosts []string) { s.hosts.Store(&hosts) }

// SetTold says what devices are told of where the stamp is, for control to tell
// them, where nobody there knows.
func (s *Stamp) SetTold(host string) { s.told.Store(&host) }

// SetSockets says how many sockets are open, and how many may be.
func (s *Stamp) SetSockets(open func() int64, most int) {
	s.limits.Sockets = most
	s.sockets.Store(&open)
}

// Serve speaks with one device until its connection ends.
func (s *Stamp) Serve(ctx context.Context, conn *mqtt.Conn, connect *mqtt.Connect, user hubmqtt.User) {
	s.edge.Serve(ctx, conn, connect, user)
}

// ServeAMQP speaks with one back end until its connection ends.
func (s *Stamp) ServeAMQP(ctx context.Context, conn *amqp.Conn) { s.backEnds.Serve(ctx, conn) }

// Ready is nil where devices may be sent to this process.
func (s *Stamp) Ready() error { return s.hub.Ready() }

// HTTPHandler serves the hub protocol over HTTPS, and that of update clients.
func (s *Stamp) HTTPHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ddi.IsPath(r.URL.Path) {
			s.updating.ServeHTTP(w, r)
			return
		}
		s.serving.ServeHTTP(w, r)
	})
}

// person asks control whose a bearer token is.
func (s *Stamp) person(ctx context.Context, token string) (name string, write bool, err error) {
	who, err := bus.Ask(ctx, s.link, link.ControlPeer, link.TokenCheck, link.CheckToken{Token: token})
	return who.Name, who.Write, err
}

// Run answers the other planes and looks after devices until ctx ends.
func (s *Stamp) Run(ctx context.Context) error {
	if err := s.answer(); err != nil {
		return err
	}
	// The logs outlive the hub, which still writes while it shuts down.
	logs, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	logging := make(chan error, 1)
	go func() { logging <- s.logs.Run(logs) }()
	err := s.run(ctx)
	stop()
	return errors.Join(err, <-logging)
}

// run runs the stamp's parts. A process of several is one of them until no
// device is connected to it any more.
func (s *Stamp) run(ctx context.Context) error {
	parts := []tasks.Task{
		{Name: "database", Run: s.db.Watch}, {Name: "sealing", Run: func(ctx context.Context) error { return s.db.RunSealing(ctx, s.logger) }}, {Name: "hub", Run: s.hub.Run}, {Name: "observe", Run: s.observe}, {Name: "metrics", Run: s.tellMetrics},
		{Name: "background", Run: func(ctx context.Context) error {
			return s.lead(ctx, tasks.Task{Name: "configurations", Run: s.configurations.Run}, tasks.Task{Name: "features", Run: s.features.Run}, tasks.Task{Name: "software", Run: s.software.Run}, tasks.Task{Name: "jobs", Run: s.jobs.Run}, tasks.Task{Name: "backups", Run: s.backups.Run}, tasks.Task{Name: "care", Run: s.care.Run},
				tasks.Task{Name: "uploads", Run: s.uploads.Run}, tasks.Task{Name: "routes", Run: s.deliveries.Run},
				tasks.Task{Name: "transfers", Run: func(ctx context.Context) error { return s.transfers.Run(ctx, s.service) }})
		}},
	}
	if s.others == nil {
		return tasks.Run(ctx, parts...)
	}
	if err := s.others.answer(); err != nil {
		return err
	}
	member, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	left := make(chan error, 1)
	go func() { left <- s.others.cluster.Run(member); cancel() }()
	err := tasks.Run(ctx, append(parts, tasks.Task{Name: "news", Run: s.others.run}, tasks.Task{Name: "calls", Run: s.others.answerWhileFit})...)
	leave()
	return errors.Join(err, <-left)
}

// Close closes the log and the database.
func (s *Stamp) Close() error {
	if s.own != nil {
		s.own.Close()
	}
	if s.server != nil {
		s.server.Stop()
	}
	if s.db != nil {
		return s.db.Close()
	}
	return nil
}

// Package control builds the plane where people decide: environments and
// stamps, who may ask, what was asked, and the API and console over it.
// Devices do not need it: they register, connect and send while it is down.
package control

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	taking "github.com/slipway/slipway/internal/backup"
	"github.com/slipway/slipway/internal/blob"
	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/alert"
	"github.com/slipway/slipway/internal/control/api"
	"github.com/slipway/slipway/internal/control/artifact"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/backup"
	"github.com/slipway/slipway/internal/control/configuration"
	"github.com/slipway/slipway/internal/control/console"
	"github.com/slipway/slipway/internal/control/decommission"
	"github.com/slipway/slipway/internal/control/dossier"
	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/control/environment"
	"github.com/slipway/slipway/internal/control/erasure"
	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/gateway"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/control/incident"
	"github.com/slipway/slipway/internal/control/insight"
	"github.com/slipway/slipway/internal/control/journal"
	"github.com/slipway/slipway/internal/control/membership"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/control/ofrep"
	"github.com/slipway/slipway/internal/control/place"
	"github.com/slipway/slipway/internal/control/probe"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/control/rehearsal"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/control/retention"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/control/signin"
	"github.com/slipway/slipway/internal/control/signing"
	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
	"github.com/slipway/slipway/internal/trail"
)

// Options are what control is built from.
type Options struct {
	Dir string // its database, unless that is elsewhere
	// Database is a URL of PostgreSQL, or a file; empty means a file in Dir.
	Database string
	// SealingKeys says where the keys come from that seal the database's secrets;
	// empty is a file in Dir. See seal.ParseSource.
	SealingKeys string
	Conn        *bus.Conn // to the other planes
	Driver      environment.Driver
	// Joining lets processes elsewhere join the link; nil where all planes are
	// in this one.
	Joining *Joining
	// Provisioning is where devices register, as host:port, for people to read.
	Provisioning string
	Artifacts    Artifacts
	Provider     *Provider // who vouches for people; nil is nobody
	// Witnesses keep the checkpoints of the audit log elsewhere.
	Witnesses Witnesses
	// Guard says where gates and webhooks may be.
	Guard *outbound.Guard
	// Prometheus keeps what all planes count; where it is empty, control does.
	Prometheus string
	Metrics    Metrics
	// Journal bounds what is kept of what all processes say, and Trail is what
	// this one says; nil is nothing.
	Journal Journal
	Trail   *trail.Trail
	Probe   Probe  // how often stamps are tried
	Address string // where people reach the console, for links
	// Backups says where backups are kept and who decrypts them, and Root is the
	// directory of the whole installation, where that is not Dir.
	Backups BackupConfig
	Root    string
	Version string // of the program
	Logger  *slog.Logger
}

// Metrics bounds what control keeps of what all planes count; 0 is as usual.
type Metrics struct {
	Age   time.Duration
	Bytes int64
}

// Probe says how often stamps are tried as by devices.
type Probe = probe.Config

// Journal bounds what control keeps of what all processes say; 0 is as usual.
type Journal struct {
	Age   time.Duration
	Bytes int64
}

// Provider is an identity provider that vouches for people.
type Provider = signin.Provider

// OpenProvider checks what is said of a provider and reads the file of its
// secret.
func OpenProvider(p Provider, field string) (*Provider, error) {
	if err := p.Check(field); err != nil || p.SecretFile == "" {
		return &p, err
	}
	secret, err := os.ReadFile(p.SecretFile)
	if err != nil {
		return nil, problem.New(problem.Invalid, "the secret cannot be read: %w", err).At(field + ".clientSecretFile")
	}
	p.ClientSecret = strings.TrimSpace(string(secret))
	return &p, nil
}

// BackupConfig is what the configuration says of backups.
type BackupConfig = backup.Config

// Artifacts says where the files of releases are, and how much of them there
// may be.
type Artifacts struct {
	Dir    string   // empty means one in Options.Dir
	S3     *link.S3 // instead of a directory
	Limits ArtifactLimits
}

// ArtifactLimits bound the files of releases.
type ArtifactLimits = artifact.Limits

// signingKey encrypts the keys that sign, which are in the database.
const signingKey = "signing.key"

// CopiedFiles are what a process that is to follow another one on the same
// database must have of its data directory.
var CopiedFiles = []string{"ca.pem", "ca-key.pem", signingKey}

// Joining is what membership needs to know of the installation and of this
// process.
type Joining struct {
	Authority       membership.Authority
	URI             func(peer string) *url.URL
	Name            func(*x509.Certificate) (string, error)
	Servers, Routes []string // of the link, host:port
	Own             []string // this process's hosts
	// Cut ends the connections of a certificate that was revoked.
	Cut func(serial string)
}

// Plane is the control plane.
type Plane struct {
	db           *sqldb.DB
	audit        *audit.Log
	environments *environment.Environments
	fleet        *fleet.Fleet
	people       *access.Access
	signIn       *signin.SignIn
	members      *membership.Membership
	artifacts    *artifact.Artifacts
	releases     *release.Releases
	signing      *signing.Signing
	gates        *gate.Gates
	rollouts     *rollout.Rollouts
	promotions   *promotion.Promotions
	taker        *taking.Taker
	backups      *backup.Backups
	care         *care.Keeper
	retention    *retention.Retention
	rehearsals   *rehearsal.Rehearsals

	decommissions *decommission.Decommissions
	erasures      *erasure.Erasures
	dossiers      *dossier.Dossiers

	flags        *featureflag.Flags
	grants       *grant.Grants
	gateway      *gateway.Gateway
	readiness    *readiness.Readiness
	insight      *insight.Insight
	monitor      *monitor.Monitor
	journal      *journal.Journal
	trail        *trail.Trail
	registry     *metrics.Registry
	alerts       *alert.Alerts
	incidents    *incident.Incidents
	probes       *probe.Probes
	api, console http.Handler
	monitoring   http.Handler
	adminToken   string
	streamSecret []byte // signs the addresses at which clients hear of flags
	logger       *slog.Logger

	drift          *drift.Drift
	configurations *configuration.Configurations
}

// sealed are the columns of the plane that hold secrets.
var sealed = slices.Concat(environment.Sealed, alert.Sealed, gate.Sealed)

func (o Options) keepSealed(ctx context.Context, db *sqldb.DB) error {
	source, err := seal.ParseSource(o.SealingKeys, o.Dir)
	if err != nil {
		return err
	}
	return db.KeepSealed(ctx, source, sealed, time.Now)
}

// New opens control's database. It looks after nothing before Run.
func New(ctx context.Context, o Options) (*Plane, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	db, err := sqldb.Open(ctx, cmp.Or(o.Database, filepath.Join(o.Dir, "control.db")), migrations.FS)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	if err := o.keepSealed(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), db.Close())
	}
	p := &Plane{db: db, logger: o.Logger, trail: o.Trail, registry: metrics.New(o.Version, o.Logger)}
	db.Committed(p.registry.Database())
	secret, err := seal.Secret(filepath.Join(o.Dir, signingKey))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), db.Close())
	}
	log, err := audit.Open(ctx, db, secret, time.Now)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), db.Close())
	}
	if log.Witnesses, err = o.Witnesses.build(o.Guard); err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), db.Close())
	}
	p.audit = log
	people := access.New(db, log, time.Now)
	p.people = people
	if p.environments, err = environment.New(db, o.Conn, o.Driver, log, o.Logger, time.Now); err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), db.Close())
	}
	box, err := seal.New(derived(secret, "secrets of routes"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), db.Close())
	}
	p.environments.Box = &box
	people.Controlled = p.environments.Controlled
	if p.adminToken, err = people.Bootstrap(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), db.Close())
	}
	if err := bus.Answer(o.Conn, link.ControlPeer, link.TokenCheck, whose(people)); err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), db.Close())
	}
	if j := o.Joining; j != nil {
		if p.members, err = membership.Open(ctx, membership.Options{
			DB: db, Audit: log, Authority: j.Authority, URI: j.URI, Name: j.Name, Servers: j.Servers, Routes: j.Routes, Own: j.Own, Now: time.Now, Raise: p.environments.Raise,
			Cut: func(serial string) { j.Cut(serial); p.environments.Kick() },
		}); err != nil {
			return nil, errors.Join(fmt.Errorf("control: %w", err), db.Close())
		}
	}
	if p.members != nil {
		p.environments.Revoked = p.members.Revoked
	}
	if err := p.releasing(ctx, o, secret, log); err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), db.Close())
	}
	p.fleet = fleet.New(p.db, o.Conn, p.environments, log, time.Now)
	if err := p.measuring(o, log); err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), db.Close())
	}
	if err := p.listening(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), p.monitor.Close(), db.Close())
	}
	p.gates = gate.New(gate.Options{
		DB: db, Audit: log, Now: time.Now, Independent: people.Independent, Guard: o.Guard, Prometheus: o.Prometheus, Metrics: p.monitor.Ask, SLO: p.alerts.SLO, Query: p.fleet.Query,
		Environments: p.environments.List, Release: p.releases.Get, Components: p.releases.Components,
	})
	p.promoting(o, log)
	if err := p.backingUp(o, log); err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), db.Close())
	}
	if err := p.caring(o, log); err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), db.Close())
	}
	p.rehearsing(log, secret)
	p.erasing(o, log)
	evaluation := p.flagging(o, log, people)
	p.configuring(o, log)
	p.drifting(o, log)
	p.granting(o, log)
	p.readying(log, o.Logger)
	p.monitoring = monitorHandler(people, p.registry, p.monitor)
	places := &place.Finder{DB: db, Device: p.fleet.Whereabouts, Enrollment: p.fleet.Enrollment}
	p.api = api.New(api.Options{
		Readiness: p.readiness, Insight: p.insight, Rehearsals: p.rehearsals,
		Retention: p.retention, Decommissions: p.decommissions, Erasures: p.erasures, Dossiers: p.dossiers,
		Members: p.members, Access: people, Places: places, SignIn: p.signIn, Audit: log, Environments: p.environments, Fleet: p.fleet, Artifacts: p.artifacts, Releases: p.releases, Signing: p.signing, Gates: p.gates, Rollouts: p.rollouts, Promotions: p.promotions, Alerts: p.alerts, Incidents: p.incidents, Journal: p.journal, Backups: p.backups, Flags: p.flags, Drift: p.drift, Configurations: p.configurations, OFREP: evaluation, Grants: p.grants, Gateway: p.gateway, Logger: o.Logger, Version: o.Version, Provisioning: bareHost(o.Provisioning), Registering: o.Provisioning})
	p.console = console.New(console.Options{
		Retention: p.retention, Erasures: p.erasures, Retired: p.decommissions,
		Access: people, Places: places, SignIn: p.signIn, Audit: log, Environments: p.environments, Fleet: p.fleet, Releases: p.releases, Signing: p.signing, Promotions: p.promotions, Rollouts: p.rollouts, Gates: p.gates, Alerts: p.alerts, Incidents: p.incidents, Journal: p.journal, Metrics: p.monitor, Backups: p.backups, Flags: p.flags, Drift: p.drift, Configurations: p.configurations, Derivations: p.environments, Grants: p.grants, Gateway: p.gateway, Permissions: offered(),
		Logger: o.Logger, Provisioning: o.Provisioning, Version: o.Version})
	p.api, p.console = p.gateway.Wrap(gateway.API, p.api), p.gateway.Wrap(gateway.Console, p.console)
	p.api, p.console = p.registry.HTTP("api", p.api), p.registry.HTTP("console", p.console)
	p.api, p.console = trail.HTTP(link.ControlPeer, "", false, p.api), trail.HTTP(link.ControlPeer, "", false, p.console)
	return p, nil
}

// measuring builds what keeps what all planes count.
func (p *Plane) measuring(o Options, log *audit.Log) (err error) {
	p.registry.Collect("control", p.collect)
	p.monitor, err = monitor.New(monitor.Options{
		Dir: filepath.Join(o.Dir, "metrics"), Age: o.Metrics.Age, Bytes: o.Metrics.Bytes, Conn: o.Conn, Registry: p.registry, Stamps: p.environments.Stamps,
		Remote: o.Prometheus, Client: o.Guard.Client(30 * time.Second), Logger: o.Logger, Now: time.Now,
	})
	p.alerts = alert.New(alert.Options{DB: p.db, Audit: log, Monitor: p.monitor, Guard: o.Guard, Address: o.Address, Dir: filepath.Join(o.Dir, "alerts"), Noted: p.noted, Logger: o.Logger, Now: time.Now})
	p.probes = probe.New(probe.Options{Config: o.Probe, Conn: o.Conn, Stamps: p.environments.Stamps, Registry: p.registry, Logger: o.Logger})
	p.incidents = incident.New(incident.Options{DB: p.db, Audit: log, Lines: p.monitor.Lines, Events: p.fleet.Events, Where: p.fleet.Whereabouts, Logger: o.Logger, Now: time.Now,
		Environment: func(ctx context.Context, name string) error {
			_, err := p.environments.Get(ctx, name)
			return err
		},
	})
	return err
}

// releasing builds what keeps releases, their files and the metadata that is
// signed of them, and answers stamps that fetch them.
func (p *Plane) releasing(ctx context.Context, o Options, secret []byte, log *audit.Log) error {
	var bucket blob.Bucket = blob.Dir(cmp.Or(o.Artifacts.Dir, filepath.Join(o.Dir, "artifacts")))
	if o.Artifacts.S3 != nil {
		var err error
		if bucket, err = blob.OpenS3(*o.Artifacts.S3, nil); err != nil {
			return err
		}
	}
	var err error
	if p.signIn, err = signin.New(signin.Options{DB: p.db, Access: p.people, Audit: log, Secret: secret, Now: time.Now, Provider: o.Provider}); err != nil {
		return err
	}
	p.streamSecret = derived(secret, "addresses of flag streams")
	p.artifacts = artifact.New(p.db, blob.New(bucket), o.Artifacts.Limits, log, time.Now)
	p.releases = release.New(p.db, p.artifacts, log, time.Now)
	if p.signing, err = signing.Open(ctx, signing.Options{DB: p.db, Audit: log, Releases: p.releases, Environment: p.environments.SpecIn, Secret: secret, Now: time.Now}); err != nil {
		return err
	}
	p.environments.Changed = p.signing.Settle
	return errors.Join(
		bus.Answer(o.Conn, link.ControlPeer, link.ArtifactRead, p.artifacts.Read),
		bus.Answer(o.Conn, link.ControlPeer, link.MetadataRead, p.signing.Read),
	)
}

// promoting builds what takes releases through environments onto stamps.
func (p *Plane) promoting(o Options, log *audit.Log) {
	p.rollouts = rollout.New(rollout.Options{
		DB: p.db, Audit: log, Fleet: p.environments, Release: p.releases.Get, Judge: p.gates.Evaluate, Raise: p.environments.Raise, Reroute: p.environments.Kick, Logger: o.Logger, Now: time.Now,
		Put: func(ctx context.Context, stamp string, doc link.Releases) error {
			_, err := bus.Ask(ctx, o.Conn, link.StampPeer(stamp), link.ReleasesPut, doc)
			return err
		},
	})
	p.environments.ReleaseRoutes = p.rollouts.Routes
	p.promotions = promotion.New(promotion.Options{
		DB: p.db, Audit: log, Environments: p.environments, Releases: p.releases, Signing: p.signing, Gates: p.gates, Rollouts: p.rollouts,
		Independent: p.people.Independent, Guard: o.Guard, Logger: o.Logger, Now: time.Now, Evidence: p.likeness,
	})
}

// flagging builds what keeps feature flags, and what they are evaluated by.
func (p *Plane) flagging(o Options, log *audit.Log, people *access.Access) http.Handler {
	p.flags = featureflag.New(featureflag.Options{
		DB: p.db, Audit: log, Environments: p.environments.List, Release: p.releases.Get, Logger: o.Logger, Now: time.Now,
		Running: func(ctx context.Context) ([]featureflag.Running, error) {
			cells, err := p.rollouts.Matrix(ctx, "")
			all := make([]featureflag.Running, len(cells))
			for i, c := range cells {
				all[i] = featureflag.Running{Environment: c.Environment, Stamp: c.Stamp, Ring: c.Ring, Release: c.Base}
				if c.Rollout != "" {
					all[i].Release = c.Release
				}
			}
			return all, err
		},
		Put: func(ctx context.Context, stamp string, flags link.Flags) error {
			_, err := bus.Ask(ctx, o.Conn, link.StampPeer(stamp), link.FlagsPut, flags)
			return err
		},
	})
	p.gates.Exercised = p.flags.Exercised
	return ofrep.New(ofrep.Options{
		Flags: p.flags, Changed: &p.flags.Changed, Secret: p.streamSecret, Logger: o.Logger, Now: time.Now,
		Authenticate: func(ctx context.Context, token, remote, environment string) error {
			actor, err := people.Authenticate(ctx, token, bareHost(remote))
			if err != nil {
				return err
			}
			return people.Check(ctx, actor, access.FlagRead, func(context.Context) ([]access.Place, error) {
				return []access.Place{{Environment: environment}}, nil
			})
		},
	})
}

// How often artifacts, signatures and the audit log are looked after.
const (
	tidyEvery  = time.Hour
	renewEvery = 10 * time.Minute
	signEvery  = 5 * time.Minute
	noteEvery  = 5 * time.Minute
)

// repeatedly does something at once and then on every tick; what fails is
// tried again on the next.
func (p *Plane) repeatedly(every time.Duration, what string, do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		once := func() {
			if err := do(ctx); err != nil && ctx.Err() == nil {
				p.logger.Warn(what+" failed; trying again", "error", err)
			}
		}
		once()
		return tasks.Every(ctx, every, once)
	}
}

// derived is a secret of its own for a purpose.
func derived(secret []byte, purpose string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(purpose))
	return mac.Sum(nil)
}

// bareHost is a host without its port, as service SDKs take it.
func bareHost(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// whose tells the other planes whose a token is, so that their own protocols
// can take it. They know no environments, so only what holds in all of them
// counts, and nothing may be changed there while one of them wants grants.
func whose(people *access.Access) func(context.Context, link.CheckToken) (link.TokenHolder, error) {
	return func(ctx context.Context, req link.CheckToken) (link.TokenHolder, error) {
		actor, err := people.Authenticate(ctx, req.Token, "link")
		if err == nil && actor.Tenant != "" {
			err = problem.New(problem.Denied, "a token of a tenant is for the API alone")
		}
		every := func(context.Context) ([]access.Place, error) { return []access.Place{{}}, nil }
		for _, p := range []access.Permission{access.DeviceRead, access.EnrollmentRead, access.TelemetryRead} {
			if err == nil {
				err = people.Check(ctx, actor, p, every)
			}
		}
		if err != nil {
			return link.TokenHolder{}, err
		}
		controlled, err := people.Controlled(ctx)
		write := len(controlled) == 0
		for _, p := range []access.Permission{access.DeviceWrite, access.EnrollmentWrite, access.SecretRead, access.SecretWrite} {
			write = write && actor.May(p, access.Place{})
		}
		return link.TokenHolder{Name: actor.Name, Write: write}, err
	}
}

// APIHandler serves /api/, /healthz and /readyz.
func (p *Plane) APIHandler() http.Handler { return p.api }

// ConsoleHandler serves everything else.
func (p *Plane) ConsoleHandler() http.Handler { return p.console }

// Admit says which peer of the link a certificate is.
func (p *Plane) Admit(certificate *x509.Certificate) (string, error) {
	return p.members.Admit(certificate)
}

// Look has the plane look at its stamps at once.
func (p *Plane) Look() { p.environments.Kick() }

// JoinToken makes the token by which a process that this one starts joins.
func (p *Plane) JoinToken(ctx context.Context, peer string) (string, error) {
	token, err := p.members.NewToken(ctx, access.Actor{Name: "slipway"}, peer, 1, 0)
	return token.Token, err
}

// AdminToken is the token made at the very first start, empty later.
func (p *Plane) AdminToken() string { return p.adminToken }

// Run looks after stamps and the directory until ctx ends.
func (p *Plane) Run(ctx context.Context) error {
	return tasks.Run(ctx,
		tasks.Task{Name: "environments", Run: p.environments.Run},
		tasks.Task{Name: "growth", Run: func(ctx context.Context) error { return p.fleet.Grow(ctx, p.logger) }},
		tasks.Task{Name: "artifacts", Run: p.repeatedly(tidyEvery, "tidying artifacts", p.artifacts.Tidy)},
		tasks.Task{Name: "signing", Run: p.repeatedly(renewEvery, "renewing signatures", p.signing.Renew)},
		tasks.Task{Name: "people", Run: p.repeatedly(tidyEvery, "asking the identity provider about people", p.signIn.Renew)},
		tasks.Task{Name: "audit", Run: p.repeatedly(signEvery, "publishing a checkpoint of the audit log", p.audit.Publish)},
		tasks.Task{Name: "rights", Run: p.repeatedly(noteEvery, "noting which rights are used", p.people.KeepUses)},
		tasks.Task{Name: "streams", Run: p.people.Watch},
		tasks.Task{Name: "rollouts", Run: p.rollouts.Run},
		tasks.Task{Name: "promotions", Run: p.promotions.Run},
		tasks.Task{Name: "backup", Run: p.taker.Run},
		tasks.Task{Name: "backups", Run: p.backups.Run},
		tasks.Task{Name: "care", Run: p.care.Run},
		tasks.Task{Name: "retention", Run: p.retention.Run},
		tasks.Task{Name: "rehearsals", Run: p.repeatedly(rehearseEvery, "looking after rehearsals", p.rehearsals.Step)},
		tasks.Task{Name: "decommissions", Run: p.decommissions.Run},
		tasks.Task{Name: "erasures", Run: p.erasures.Run},
		tasks.Task{Name: "flags", Run: p.flags.Run},
		tasks.Task{Name: "configurations", Run: p.configurations.Run},
		tasks.Task{Name: "drift", Run: p.drift.Run},
		tasks.Task{Name: "grants", Run: p.grants.Run},
		tasks.Task{Name: "gateway", Run: p.gateway.Run},
		tasks.Task{Name: "readiness", Run: p.readiness.Run},
		tasks.Task{Name: "database", Run: p.db.Watch},
		tasks.Task{Name: "sealing", Run: func(ctx context.Context) error { return p.db.RunSealing(ctx, p.logger) }},
		tasks.Task{Name: "metrics", Run: p.monitor.Run},
		tasks.Task{Name: "journal", Run: p.journal.Run},
		tasks.Task{Name: "trail", Run: p.say},
		tasks.Task{Name: "alerts", Run: p.alerts.Run},
		tasks.Task{Name: "probes", Run: p.probes.Run},
	)
}

// Close closes the database and what is kept of metrics.
func (p *Plane) Close() error { return errors.Join(p.monitor.Close(), p.journal.Close(), p.db.Close()) }

// Settled reports whether every stamp runs and provisioning knows the
// directory, bringing both about if need be.
func (p *Plane) Settled(ctx context.Context) error { return p.environments.Reconcile(ctx) }

// Empty reports whether nothing was ever declared.
func (p *Plane) Empty(ctx context.Context) (bool, error) {
	all, err := p.environments.List(ctx)
	return len(all) == 0, err
}

// Apply declares resources, in the order in which they depend on one another.
// onlyNew leaves alone what is declared already.
func (p *Plane) Apply(ctx context.Context, actor access.Actor, all []resource.Resource, onlyNew bool) error {
	for _, kind := range resource.Kinds {
		for _, r := range all {
			if r.Kind != kind {
				continue
			}
			if err := p.apply(ctx, actor, r, onlyNew); err != nil {
				return fmt.Errorf("%s %s: %w", r.Kind, r.Metadata.Name, err)
			}
		}
		if kind == resource.KindStamp {
			// Enrolments speak of stamps that provisioning must know.
			if err := p.environments.Reconcile(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Plane) apply(ctx context.Context, actor access.Actor, r resource.Resource, onlyNew bool) error {
	name := r.Metadata.Name
	switch r.Kind {
	case resource.KindBlueprint:
		spec, err := resource.SpecOf[resource.BlueprintSpec](r)
		if err != nil {
			return err
		}
		_, err = p.environments.PutBlueprint(ctx, actor, name, spec, "", false)
		return err
	case resource.KindEnvironment:
		spec, err := resource.SpecOf[resource.EnvironmentSpec](r)
		if err != nil {
			return err
		}
		_, err = p.environments.Put(ctx, actor, name, spec, "", false)
		return err
	case resource.KindStamp:
		spec, err := resource.SpecOf[resource.StampSpec](r)
		if err != nil {
			return err
		}
		_, err = p.environments.PutStamp(ctx, actor, name, spec, "", false)
		return err
	case resource.KindTenant:
		spec, err := resource.SpecOf[resource.TenantSpec](r)
		if err != nil {
			return err
		}
		_, err = p.environments.PutTenant(ctx, actor, name, spec, "", false)
		return err
	case resource.KindRoute:
		spec, err := resource.SpecOf[link.RouteSpec](r)
		if err != nil {
			return err
		}
		_, err = p.environments.PutRoute(ctx, actor, name, spec, "", false)
		return err
	case resource.KindRole:
		spec, err := resource.SpecOf[resource.RoleSpec](r)
		if err != nil {
			return err
		}
		_, err = p.people.PutRole(ctx, actor, name, spec, "", false)
		return err
	case resource.KindFlag:
		spec, err := resource.SpecOf[flag.Flag](r)
		if err != nil {
			return err
		}
		_, err = p.flags.Put(ctx, actor, name, spec, "", false)
		return err
	}
	spec, err := resource.SpecOf[link.EnrollmentSpec](r)
	if err != nil {
		return err
	}
	kind := link.EnrollmentKind(r.Kind)
	if onlyNew {
		if _, err := p.fleet.Enrollment(ctx, link.EnrollmentRef{Kind: kind, Name: name}); !problem.Is(err, problem.NotFound) {
			return err
		}
	}
	_, err = p.fleet.PutEnrollment(ctx, actor, link.PutEnrollment{Kind: kind, Name: name, Spec: spec})
	return err
}

// GroupKey returns the primary key of an enrolment group, for the simulated
// fleet that is told nothing else.
func (p *Plane) GroupKey(ctx context.Context, group string) (string, error) {
	e, err := p.fleet.Enrollment(ctx, link.EnrollmentRef{Kind: link.Group, Name: group})
	if err != nil {
		return "", err
	}
	if e.Spec.Attestation.SymmetricKey == nil {
		return "", problem.New(problem.Conflict, "the enrolment group %s has no symmetric key", group)
	}
	return e.Spec.Attestation.SymmetricKey.PrimaryKey, nil
}

// Package provisioning builds the plane that sends each device to its stamp:
// one device-facing endpoint over all environments. It holds enrolments,
// registrations and a copy of the directory, and works while control is down.
package provisioning

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/backup"
	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/policy"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/authority"
	"github.com/slipway/slipway/internal/provisioning/directory"
	"github.com/slipway/slipway/internal/provisioning/dpshttp"
	"github.com/slipway/slipway/internal/provisioning/dpsmqtt"
	"github.com/slipway/slipway/internal/provisioning/dpsservice"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
	"github.com/slipway/slipway/internal/provisioning/issuing"
	"github.com/slipway/slipway/internal/provisioning/migrations"
	"github.com/slipway/slipway/internal/provisioning/registration"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
	"github.com/slipway/slipway/internal/trail"
)

// Options are what provisioning is built from.
type Options struct {
	Dir string // its database, unless that is elsewhere
	// Database is a URL of PostgreSQL, or a file; empty means a file in Dir.
	Database string
	// SealingKeys says where the keys come from that seal the database's secrets;
	// empty is a file in Dir. See seal.ParseSource.
	SealingKeys string
	Conn        *bus.Conn // to the other planes
	Version     string    // of the program
	Logger      *slog.Logger
	Hosts       func() []string // the names the service answers to, for the scope of tokens
	Guard       *outbound.Guard // where webhooks may be
	// Cut ends the connections to the link of a certificate that was revoked;
	// nil where this process holds no server of it.
	Cut func(serial string)
}

// Plane is the provisioning plane.
type Plane struct {
	db          *sqldb.DB
	conn        *bus.Conn
	scope       string
	directory   *directory.Store
	enrollments *enrollment.Enrollments
	service     *registration.Service
	issuer      *issuing.Authority
	authorities *authority.Authorities
	mqtt        *dpsmqtt.Edge
	http        http.Handler
	policies    *policy.Policies
	back        http.Handler
	metrics     *metrics.Registry
	cut         func(serial string)
	backups     *backup.Taker
	care        *care.Keeper
	logger      *slog.Logger
}

// New opens provisioning's database and answers the other planes. Devices are
// worked on from Run on.
func New(ctx context.Context, o Options) (*Plane, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("provisioning: %w", err)
	}
	db, err := sqldb.Open(ctx, cmp.Or(o.Database, filepath.Join(o.Dir, "provisioning.db")), migrations.Files)
	if err != nil {
		return nil, fmt.Errorf("provisioning: %w", err)
	}
	if err := o.keepSealed(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("provisioning: %w", err), db.Close())
	}
	p := &Plane{db: db, conn: o.Conn, cut: o.Cut, logger: o.Logger, metrics: metrics.New(o.Version, o.Logger)}
	db.Committed(p.metrics.Database())
	if err := p.build(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("provisioning: %w", err), db.Close())
	}
	return p, nil
}

func (o Options) keepSealed(ctx context.Context, db *sqldb.DB) error {
	source, err := seal.ParseSource(o.SealingKeys, o.Dir)
	if err != nil {
		return err
	}
	return db.KeepSealed(ctx, source, sealed, time.Now)
}

func (p *Plane) build(ctx context.Context, o Options) (err error) {
	if p.scope, err = setting(ctx, p.db, "idScope", func() string { return "0ne" + hex.EncodeToString(random(4)) }); err != nil {
		return err
	}
	text, err := setting(ctx, p.db, "tpmSecret", func() string { return hex.EncodeToString(random(32)) })
	if err != nil {
		return err
	}
	secret, err := hex.DecodeString(text)
	if err != nil {
		return fmt.Errorf("the stored secret for TPMs: %w", err)
	}
	if p.directory, err = directory.Open(ctx, p.db); err != nil {
		return err
	}
	p.enrollments = enrollment.New(p.db, secret, time.Now)
	p.authorities = authority.New(p.db, time.Now)
	p.service = registration.NewService(p.db, p.directory, stamps{o.Conn}, registration.DefaultLimits, o.Logger, time.Now)
	p.issuer = issuing.New(p.db, time.Now)
	p.service.Issuer, p.service.BarKey = p.issuer, secret
	p.service.Chooser = dpsservice.NewWebhooks(p.directory, o.Guard, o.Logger, time.Now)
	p.mqtt = dpsmqtt.New(p.scope, p.enrollments, p.service, o.Logger, time.Now)
	p.http = trail.HTTP(link.ProvisioningPeer, "", true, p.metrics.HTTP("devices", dpshttp.New(p.scope, p.enrollments, p.service, o.Logger, time.Now)))
	if p.policies, err = policy.Open(ctx, p.db, policy.Provisioning); err != nil {
		return err
	}
	p.backups = backup.New(backup.Source{Peer: link.ProvisioningPeer, Version: o.Version, Dir: o.Dir, DB: p.db, Logger: o.Logger, Now: time.Now})
	p.back = p.metrics.HTTP("service", dpsservice.New(dpsservice.Parts{
		Enrollments: p.enrollments, Registrations: p.service, Directory: p.directory, Policies: p.policies,
		Hosts: o.Hosts, People: p.person, Logger: o.Logger, Now: time.Now,
	}))
	p.service.Measure(p.metrics)
	p.metrics.Collect("registrations", p.collect)
	if err := p.caring(); err != nil {
		return err
	}
	return p.answer()
}

// person asks control whose a bearer token is.
func (p *Plane) person(ctx context.Context, token string) (name string, write bool, err error) {
	who, err := bus.Ask(ctx, p.conn, link.ControlPeer, link.TokenCheck, link.CheckToken{Token: token})
	return who.Name, who.Write, err
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}

// keptSetting is sealed: one of them is a secret.
var keptSetting = sqldb.Sealed{Table: "provisioning_setting", Key: []string{"name"}, Name: "value"}

// sealed are the columns of the plane that hold secrets.
var sealed = slices.Concat([]sqldb.Sealed{keptSetting}, enrollment.Sealed, registration.Sealed, issuing.Sealed, policy.Sealed)

// setting returns what is kept under a name, made at the first start.
func setting(ctx context.Context, db *sqldb.DB, name string, fresh func() string) (value string, err error) {
	err = db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO provisioning_setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", name, tx.Seal(keptSetting, []byte(fresh()), name)); err != nil {
			return err
		}
		value, _, err = sqldb.Row(ctx, tx, func(r *sql.Rows) (s string, err error) { return s, r.Scan(keptSetting.Into(&s, &name)) }, "SELECT value FROM provisioning_setting WHERE name = ?", name)
		return err
	})
	return value, err
}

// answer serves the calls of control.
func (p *Plane) answer() error {
	const peer = link.ProvisioningPeer
	return errors.Join(
		bus.Answer(p.conn, peer, link.DirectoryPut, func(ctx context.Context, d link.Directory) (link.None, error) {
			if err := p.directory.Put(ctx, d); err != nil {
				return link.None{}, err
			}
			p.cutRevoked()
			return link.None{}, nil
		}),
		bus.Answer(p.conn, peer, link.DirectoryRead, func(ctx context.Context, _ link.None) (link.Directory, error) { return p.directory.Held(ctx) }),
		bus.Answer(p.conn, peer, link.ProvisioningInfo, func(context.Context, link.None) (link.Scope, error) { return link.Scope{IDScope: p.scope}, nil }),
		bus.Answer(p.conn, peer, link.EnrollmentPut, func(ctx context.Context, req link.PutEnrollment) (link.Enrollment, error) {
			e, err := p.enrollments.Put(ctx, req)
			return p.counted(ctx, e, err)
		}),
		bus.Answer(p.conn, peer, link.EnrollmentGet, func(ctx context.Context, ref link.EnrollmentRef) (link.Enrollment, error) {
			e, err := p.enrollments.Get(ctx, ref)
			return p.counted(ctx, e, err)
		}),
		bus.Answer(p.conn, peer, link.EnrollmentDelete, func(ctx context.Context, ref link.EnrollmentRef) (link.None, error) {
			return link.None{}, p.enrollments.Delete(ctx, ref)
		}),
		bus.Answer(p.conn, peer, link.EnrollmentList, p.listEnrollments),
		bus.Answer(p.conn, peer, link.RegistrationGet, p.service.Get),
		bus.Answer(p.conn, peer, link.RegistrationList, p.service.List),
		bus.Answer(p.conn, peer, link.RegistrationCount, func(ctx context.Context, _ link.None) (link.RegistrationCounts, error) { return p.service.Count(ctx) }),
		bus.Answer(p.conn, peer, link.DevicesImport, p.service.Import),
		bus.Answer(p.conn, peer, link.PlacementExplain, p.service.Explain),
		bus.Answer(p.conn, peer, link.MoveStart, p.service.StartMove),
		bus.Answer(p.conn, peer, link.MoveGet, func(ctx context.Context, ref link.MoveRef) (link.Move, error) { return p.service.Move(ctx, ref.ID) }),
		bus.Answer(p.conn, peer, link.MoveList, p.service.Moves),
		bus.Answer(p.conn, peer, link.MoveDevices, p.service.MoveDevices),
		bus.Answer(p.conn, peer, link.AuthorityAdd, p.authorities.Add),
		bus.Answer(p.conn, peer, link.AuthorityList, p.authorities.List),
		bus.Answer(p.conn, peer, link.AuthorityVerify, p.authorities.Verify),
		bus.Answer(p.conn, peer, link.AuthorityDelete, func(ctx context.Context, ref link.AuthorityRef) (link.None, error) {
			return link.None{}, p.authorities.Delete(ctx, ref)
		}),
		bus.Answer(p.conn, peer, link.CertificateList, p.issuer.List),
		bus.Answer(p.conn, peer, link.CertificateRevoke, p.service.Revoke),
		bus.Answer(p.conn, peer, link.ServicePolicies, p.policies.Answer),
		bus.Answer(p.conn, peer, link.ServiceRotate, p.policies.AnswerRotate),
		bus.Answer(p.conn, peer, link.BackupTake, p.backups.Take),
		bus.Answer(p.conn, peer, link.BackupStatus, p.backups.Status),
	)
}

// Revoked reports whether a certificate, by its hex serial, is one whose owner
// is not let on the link.
func (p *Plane) Revoked(serial string) bool {
	return slices.Contains(p.directory.Current().Revoked(), serial)
}

// cutRevoked sends away from the link whoever is no longer let in.
func (p *Plane) cutRevoked() {
	if p.cut == nil {
		return
	}
	for _, serial := range p.directory.Current().Revoked() {
		p.cut(serial)
	}
}

// counted adds to an enrolment how many devices came by it.
func (p *Plane) counted(ctx context.Context, e link.Enrollment, err error) (link.Enrollment, error) {
	if err == nil {
		e.Devices, err = p.service.CountEnrolled(ctx, e.Kind, e.Name)
	}
	return e, err
}

func (p *Plane) listEnrollments(ctx context.Context, req link.ListEnrollments) (link.Enrollments, error) {
	page, err := p.enrollments.List(ctx, req)
	for i, e := range page.Items {
		page.Items[i], err = p.counted(ctx, e, err)
	}
	return page, err
}

// IDScope names this endpoint to devices.
func (p *Plane) IDScope() string { return p.scope }

// ServeMQTT speaks with one device until its connection ends.
func (p *Plane) ServeMQTT(ctx context.Context, conn *mqtt.Conn, connect *mqtt.Connect) {
	p.mqtt.Serve(ctx, conn, connect)
}

// HTTPHandler serves /{idScope}/registrations/.
func (p *Plane) HTTPHandler() http.Handler { return p.http }

// ServiceHandler serves back ends: /enrollments, /enrollmentGroups and
// /registrations.
func (p *Plane) ServiceHandler() http.Handler { return p.back }

// Run works on registrations, moves and rules until ctx ends.
func (p *Plane) Run(ctx context.Context) error {
	return tasks.Run(ctx,
		tasks.Task{Name: "registrations", Run: p.service.Run},
		tasks.Task{Name: "moves", Run: p.service.RunMoves},
		tasks.Task{Name: "rules", Run: p.service.RunRules},
		tasks.Task{Name: "renewals", Run: p.service.RunRenewals},
		tasks.Task{Name: "authorities", Run: p.tellAuthorities},
		tasks.Task{Name: "database", Run: p.db.Watch},
		tasks.Task{Name: "sealing", Run: func(ctx context.Context) error { return p.db.RunSealing(ctx, p.logger) }},
		tasks.Task{Name: "backups", Run: p.backups.Run},
		tasks.Task{Name: "care", Run: p.care.Run},
		tasks.Task{Name: "metrics", Run: p.tellMetrics},
	)
}

// Close closes the database.
func (p *Plane) Close() error { return p.db.Close() }

// tellAuthorities has every stamp trust the authorities that were proven, until
// ctx ends. A stamp that is away hears of them when it is there again.
func (p *Plane) tellAuthorities(ctx context.Context) error {
	return p.authorities.Tell(ctx, func(ctx context.Context, trusted link.TrustedAuthorities) {
		for _, stamp := range p.directory.Current().All() {
			if _, err := bus.Ask(ctx, p.conn, link.StampPeer(stamp.Name), link.AuthoritiesPut, trusted); err != nil && ctx.Err() == nil && !problem.Is(err, problem.NotReady) {
				p.logger.Warn("a stamp was not told of authorities; trying again", "stamp", stamp.Name, "error", err)
			}
		}
	})
}

// stamps asks stamps over the link.
type stamps struct{ conn *bus.Conn }

// Put asks a stamp to make or renew an identity.
func (s stamps) Put(ctx context.Context, stamp string, req link.PutIdentity) (link.IdentityResult, error) {
	return bus.Ask(ctx, s.conn, link.StampPeer(stamp), link.IdentityPut, req)
}

// Remove asks a stamp to take an identity away.
func (s stamps) Remove(ctx context.Context, stamp string, req link.RemoveIdentity) (link.RemovedIdentity, error) {
	return bus.Ask(ctx, s.conn, link.StampPeer(stamp), link.IdentityRemove, req)
}

// Query asks a stamp for devices.
func (s stamps) Query(ctx context.Context, stamp string, req link.QueryDevices) (link.Devices, error) {
	return bus.Ask(ctx, s.conn, link.StampPeer(stamp), link.DeviceQuery, req)
}

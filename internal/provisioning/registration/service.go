package registration

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	rng "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/allocation"
	"github.com/slipway/slipway/internal/provisioning/attestation"
	"github.com/slipway/slipway/internal/provisioning/directory"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
	"github.com/slipway/slipway/internal/provisioning/issuing"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/trail"
)

// Stamps is what registrations ask of stamps, by name.
type Stamps interface {
	Put(ctx context.Context, stamp string, req link.PutIdentity) (link.IdentityResult, error)
	Remove(ctx context.Context, stamp string, req link.RemoveIdentity) (link.RemovedIdentity, error)
	Query(ctx context.Context, stamp string, req link.QueryDevices) (link.Devices, error)
}

// Limits bound what the service takes on.
type Limits struct {
	Rate    float64 // registrations per second
	Burst   int
	Workers int // registrations worked on at once
}

// DefaultLimits suit one machine.
var DefaultLimits = Limits{Rate: 4000, Burst: 8000, Workers: 128}

// Service registers devices and moves them.
type Service struct {
	db        *sqldb.DB
	directory *directory.Store
	stamps    Stamps
	logger    *slog.Logger
	now       func() time.Time
	// Chooser asks webhooks, Issuer makes certificates; nil for neither.
	Chooser   Chooser
	Issuer    *issuing.Authority
	BarKey    []byte // by which barred registrations are known
	admission *rate.Limiter
	workers   chan struct{}
	kick      chan struct{} // wakes Run
	kickMoves chan struct{} // wakes RunMoves

	meters  *meters
	queue   queue
	paces   sync.Map // of moves that keep to one: number to *rate.Limiter
	mu      sync.Mutex
	busy    map[string]bool // registrations being worked on
	again   map[string]bool // and to be looked at once more
	more    bool            // others were due when there was no room
	working sync.WaitGroup
	closed  bool
}

// NewService returns the registrations kept in db. Nothing moves before Run.
func NewService(db *sqldb.DB, d *directory.Store, stamps Stamps, limits Limits, logger *slog.Logger, now func() time.Time) *Service {
	return &Service{
		db: db, directory: d, stamps: newPatience(stamps, now), logger: logger, now: now,
		admission: rate.NewLimiter(rate.Limit(limits.Rate), limits.Burst), workers: make(chan struct{}, limits.Workers),
		kick: make(chan struct{}, 1), kickMoves: make(chan struct{}, 1), busy: map[string]bool{}, again: map[string]bool{}, meters: newMeters(nil),
	}
}

// Measure has what becomes of registrations counted. It is called before Run.
func (s *Service) Measure(r prometheus.Registerer) { s.meters = newMeters(r) }

// Chooser asks whoever an enrolment leaves the choice of a stamp to.
type Chooser interface {
	// Choose returns the choice among the stamps. An error means that there is
	// none and the enrolment's fallback decides.
	Choose(ctx context.Context, q Question) (*Choice, error)
}

// Question is what a chooser is asked.
type Question struct {
	Enrollment     link.Enrollment
	RegistrationID string
	DeviceID       string // where the device is known
	Stamp          string // where it is now
	Auth           link.Auth
	Payload        json.RawMessage
	Candidates     []link.Stamp
}

// clock is the time as the database keeps it.
func (s *Service) clock() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// Operation is what a device is told of its registration.
type Operation struct {
	ID         string
	Status     string // assigning, assigned
	RetryAfter time.Duration
	Record     Record
	Host       string // of the stamp, when assigned
}

// The states of an operation.
const (
	StatusAssigning = "assigning"
	StatusAssigned  = "assigned"
)

// Register takes up a device's wish to be assigned. The proof has been checked.
func (s *Service) Register(ctx context.Context, registrationID string, proof attestation.Proof, ask Ask) (_ Operation, err error) {
	ctx, work := trail.Seldom(ctx, "register")
	work.Say("plane", link.ProvisioningPeer).Say("registration", registrationID)
	defer func() { s.meters.request(ctx, strings.ToLower(registrationID), err); work.End(err) }()
	if err := checkProbe(registrationID, proof.Enrollment); err != nil {
		return Operation{}, err
	}
	if !s.admission.Allow() {
		return Operation{}, problem.New(problem.Busy, "more registrations arrive than are admitted; try again later").After(time.Second)
	}
	if come, full := s.queue.full(); full {
		return Operation{}, problem.New(problem.Busy, "%d registrations are under way, the most there may be; try again later", maxDue).After(come)
	}
	request, err := s.signingRequest(ask, registrationID)
	if err != nil {
		return Operation{}, err
	}
	choice := s.ask(ctx, registrationID, proof, ask)
	var r Record
	err = s.commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now := s.clock()
		if barred, err := s.barred(ctx, tx, strings.ToLower(registrationID)); err != nil || barred {
			return cmp.Or(err, error(errBarred))
		}
		known, err := s.loadOrMake(ctx, tx, &r, registrationID, proof, now)
		if err != nil {
			return err
		}
		before := r.Extra.Sealed
		r.Extra = Extra{Choice: choice, Bound: r.Extra.Bound}
		if proof.Enrollment.Spec.Attestation.TPM != nil {
			r.Extra.Sealed = kept(proof.Sealed, before)
		}
		if err := s.reconsider(ctx, tx, &r, proof, now); err != nil {
			return err
		}
		if request != nil {
			if r.Extra.Chain, err = s.Issuer.Issue(ctx, tx, r.Environment, r.Key, r.DeviceID, request); err != nil {
				return err
			}
		}
		if !known {
			return insert(ctx, tx, &r)
		}
		return save(ctx, tx, &r)
	})
	if err != nil {
		return Operation{}, err
	}
	s.queue.took()
	s.work(r.Key)
	return s.operation(r), nil
}

// checkProbe refuses devices that are called like probes. A probe has an
// enrolment of its own, for its own stamp alone, which only control makes.
func checkProbe(registrationID string, e link.Enrollment) error {
	id := cmp.Or(e.Spec.DeviceID, registrationID)
	if !link.IsProbe(id) {
		return nil
	}
	if a := e.Spec.Allocation; e.Kind == link.Individual && e.Name == registrationID && a != nil && len(a.Stamps) == 1 && id == link.Probe(a.Stamps[0]) {
		return nil
	}
	return problem.New(problem.Denied, "the name %s is for Slipway's own probes", id)
}

// kept is a key sealed just now, or else the one sealed before: a device that
// sends no TPM keys along still has it.
func kept(fresh, before []byte) []byte {
	if fresh != nil {
		return fresh
	}
	return before
}

func (s *Service) signingRequest(ask Ask, registrationID string) (*x509.CertificateRequest, error) {
	if ask.CSR == nil {
		return nil, nil
	}
	if s.Issuer == nil {
		return nil, problem.New(problem.Invalid, "no certificates are issued here").At("csr")
	}
	return issuing.ReadRequest(ask.CSR, registrationID)
}

// ask asks the webhook of an enrolment that leaves the choice to one. Without
// an answer the fallback decides, so that nobody waits for somebody else's
// service.
func (s *Service) ask(ctx context.Context, registrationID string, proof attestation.Proof, ask Ask) *Choice {
	spec := proof.Enrollment.Spec
	if s.Chooser == nil || spec.Allocation == nil || spec.Allocation.Policy != link.AllocateCustom {
		return nil
	}
	r, known, err := byKey(ctx, s.db, strings.ToLower(registrationID))
	if err != nil {
		s.logger.Error("registration not read", "registration", registrationID, "error", err)
		return nil
	}
	q := Question{Enrollment: proof.Enrollment, RegistrationID: registrationID, Auth: proof.Auth, Payload: ask.Payload, DeviceID: r.DeviceID, Stamp: r.Stamp}
	environment := spec.Environment
	if known {
		environment = r.wanted(spec)
	}
	for _, stamp := range s.directory.Current().In(environment) {
		stays := spec.Reprovision == link.ReprovisionNever && r.Target == "" && r.Stamp != ""
		named := len(spec.Allocation.Stamps) == 0 || environment != spec.Environment || slices.Contains(spec.Allocation.Stamps, stamp.Name)
		if stays && stamp.Name == r.Stamp || !stays && named && stamp.State == link.StampOpen {
			q.Candidates = append(q.Candidates, stamp)
		}
	}
	choice, err := s.Chooser.Choose(ctx, q)
	if err != nil {
		s.logger.Warn("the webhook did not choose; the fallback does", "registration", registrationID, "enrollment", proof.Enrollment.Name, "error", err)
		return nil
	}
	return choice
}

// loadOrMake reads the device's record, or begins a new one.
func (s *Service) loadOrMake(ctx context.Context, tx *sqldb.Tx, r *Record, id string, proof attestation.Proof, now time.Time) (known bool, err error) {
	if *r, known, err = byKey(ctx, tx, strings.ToLower(id)); err != nil {
		return known, err
	}
	if !known {
		*r = Record{Key: strings.ToLower(id), RegistrationID: id, Phase: link.PhaseWaiting, Salt: strings.ToLower(rand.Text()[:16]), CreatedAt: now}
		r.DeviceID = proof.Enrollment.Spec.DeviceID
		if r.DeviceID == "" {
			r.DeviceID = id
		}
		if other, taken, err := byDevice(ctx, tx, r.DeviceID); err != nil || taken {
			return known, errors.Join(err, problem.New(problem.Conflict, "device id %s belongs to registration %s already", r.DeviceID, other.RegistrationID))
		}
	}
	if err := s.belong(ctx, tx, r, cmp.Or(proof.Enrollment.Spec.Tenant, link.DefaultTenant)); err != nil {
		return known, err
	}
	r.EnrollmentKind, r.Enrollment, r.Auth, r.UpdatedAt = proof.Enrollment.Kind, proof.Enrollment.Name, proof.Auth, now
	return known, nil
}

// reconsider opens an operation and sets out to where the device belongs.
func (s *Service) reconsider(ctx context.Context, tx *sqldb.Tx, r *Record, proof attestation.Proof, now time.Time) error {
	spec := proof.Enrollment.Spec
	r.Operation++
	r.Open, r.Due = true, &now
	wanted := r.wanted(spec)
	if r.Transitions == 0 {
		r.Environment = wanted
		r.note(stepRegistered, "enrolment "+r.Enrollment, now)
	}
	if wanted != r.Environment {
		r.Environment = wanted
		if r.Phase != link.PhaseWaiting {
			r.note(stepRequested, "the enrolment's environment is "+wanted+" now", now)
		}
	}
	switch r.Phase {
	case link.PhaseWaiting:
		return s.choose(ctx, tx, r, spec, now)
	case link.PhaseAssigned, link.PhaseCreating:
		stamp, known := s.directory.Current().Stamp(r.Stamp)
		moved := r.Extra.Choice != nil && r.Extra.Choice.Stamp != r.Stamp && spec.Reprovision != link.ReprovisionNever
		tenant, _ := s.directory.Current().Tenant(r.Tenant)
		if !r.stays(stamp, known, spec) || moved || known && allocation.Barred(stamp, tenant) {
			return r.leave("registered again, belongs to "+r.Environment, now)
		}
	}
	return nil
}

// choose takes a place on a stamp for a waiting device, in the transaction
// that counts the places. Without a place the device goes on waiting.
func (s *Service) choose(ctx context.Context, tx *sqldb.Tx, r *Record, spec link.EnrollmentSpec, now time.Time) error {
	candidates, err := s.candidates(ctx, tx, r.Environment)
	if err != nil {
		return err
	}
	name, err := s.allocate(ctx, tx, r, r.rule(spec), candidates)
	if problem.Is(err, problem.NotReady) {
		r.failed(err, max(waitForPlace, backoff(r.Attempts, rng.Float64())), now)
		return nil
	}
	if err != nil {
		return err
	}
	stamp, _ := s.directory.Current().Stamp(name)
	if err := r.place(stamp, now); err != nil {
		return err
	}
	return r.take(ctx, tx, 1)
}

// candidates are the stamps of an environment with the places taken on them.
func (s *Service) candidates(ctx context.Context, q sqldb.Querier, environment string) ([]allocation.Candidate, error) {
	places, err := taken(ctx, q)
	if err != nil {
		return nil, err
	}
	var all []allocation.Candidate
	for _, stamp := range s.directory.Current().In(environment) {
		all = append(all, allocation.Candidate{Stamp: stamp, Taken: places[stamp.Name]})
	}
	return all, nil
}

// rule is the allocation that an enrolment, or a webhook for it, has for the
// device. In another environment than the enrolment's own, the stamps that it
// names are not meant.
func (r *Record) rule(spec link.EnrollmentSpec) link.Allocation {
	var rule link.Allocation
	if spec.Allocation != nil {
		rule = *spec.Allocation
	}
	rule = r.Extra.Choice.rule(rule)
	if r.Environment != spec.Environment && r.Extra.Choice == nil {
		rule.Stamps = nil
		if rule.Policy == link.AllocateStatic {
			rule.Policy = link.AllocateWeighted
		}
	}
	return rule
}

// allocate names the stamp that a device goes to, or says as not ready why
// there is none.
func (s *Service) allocate(ctx context.Context, tx *sqldb.Tx, r *Record, rule link.Allocation, candidates []allocation.Candidate) (string, error) {
	tenant, err := s.tenantWithRoom(ctx, tx, r)
	if err != nil {
		return "", err
	}
	name, err := allocation.Choose(r.RegistrationID, r.Environment, tenant, r.bound(rule), candidates)
	if err != nil && r.Extra.Bound != "" { // better elsewhere than nowhere
		name, err = allocation.Choose(r.RegistrationID, r.Environment, tenant, rule, candidates)
	}
	return name, err
}

// belong says whose device it is. One that has a place takes it along into the
// other tenant's count.
func (s *Service) belong(ctx context.Context, tx *sqldb.Tx, r *Record, tenant string) error {
	before := r.Tenant
	r.Tenant = tenant
	if before == "" || before == tenant || r.Stamp == "" {
		return nil
	}
	return errors.Join(takeTenant(ctx, tx, before, -1), takeTenant(ctx, tx, tenant, 1))
}

// tenantWithRoom is the tenant of a device that is to have a place.
func (s *Service) tenantWithRoom(ctx context.Context, tx *sqldb.Tx, r *Record) (link.Tenant, error) {
	tenant, known := s.directory.Current().Tenant(r.Tenant)
	if !known {
		return link.Tenant{}, problem.New(problem.NotReady, "there is no tenant %q, which enrolment %s names", r.Tenant, r.Enrollment)
	}
	if tenant.Devices == 0 {
		return tenant, nil
	}
	n, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT taken FROM tenant_place WHERE tenant = ?", r.Tenant)
	if err == nil && int(n) >= tenant.Devices {
		return link.Tenant{}, problem.New(problem.NotReady, "tenant %s has %d devices, the most it may have", tenant.Name, n)
	}
	return tenant, err
}

// bound is the allocation of a device that a move sends to one stamp.
func (r *Record) bound(rule link.Allocation) link.Allocation {
	if r.Extra.Bound == "" {
		return rule
	}
	return link.Allocation{Policy: link.AllocateStatic, Stamps: []string{r.Extra.Bound}}
}

// rule is the allocation that a webhook's choice comes to, or without one the
// fallback of the rule that asks a webhook.
func (c *Choice) rule(asked link.Allocation) link.Allocation {
	if asked.Policy != link.AllocateCustom {
		return asked
	}
	if c != nil {
		return link.Allocation{Policy: link.AllocateStatic, Stamps: []string{c.Stamp}}
	}
	asked.Policy = asked.Fallback
	return asked
}

// waitForPlace is how long a device that found no place waits at least before
// the stamps are looked at again; a full environment may leave many waiting.
const waitForPlace = 3 * time.Second

// Poll tells a device how its operation stands. One that was assigned and is
// being moved meanwhile is told to wait, never the place it is leaving.
func (s *Service) Poll(ctx context.Context, registrationID, operationID string) (Operation, error) {
	r, known, err := byKey(ctx, s.db, strings.ToLower(registrationID))
	if err != nil {
		return Operation{}, err
	}
	if !known || !r.ownsOperation(operationID) {
		return Operation{}, problem.New(problem.NotFound, "there is no such operation")
	}
	if r.Phase == link.PhaseAssigned || r.Open {
		return s.operation(r), nil
	}
	err = s.commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if r, known, err = byKey(ctx, tx, r.Key); err != nil || !known {
			return errors.Join(err, errChanged)
		}
		if barred, err := s.barred(ctx, tx, r.Key); err != nil || barred {
			return cmp.Or(err, error(errBarred))
		}
		now := s.clock()
		r.Open, r.Due, r.UpdatedAt = true, &now, now
		return save(ctx, tx, &r)
	})
	if err == nil {
		s.work(r.Key)
	}
	return s.operation(r), err
}

// Lookup tells how a registration stands.
func (s *Service) Lookup(ctx context.Context, registrationID string) (Operation, error) {
	r, known, err := byKey(ctx, s.db, strings.ToLower(registrationID))
	if err == nil && !known {
		err = problem.New(problem.NotFound, "the device has not registered yet")
	}
	return s.operation(r), err
}

// Release takes a device off its stamp; it is assigned again when it registers
// next.
func (s *Service) Release(ctx context.Context, registrationID, reason string) error {
	key := strings.ToLower(registrationID)
	err := s.commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, known, err := byKey(ctx, tx, key)
		if err != nil {
			return err
		}
		if !known {
			return problem.New(problem.NotFound, "there is no registration %q", registrationID)
		}
		if r.Phase != link.PhaseAssigned && r.Phase != link.PhaseCreating {
			return nil // it is on its way off already, or on no stamp
		}
		now := s.clock()
		r.UpdatedAt = now
		r.note(stepRequested, reason, now)
		if err := r.leave(reason, now); err != nil {
			return err
		}
		r.Open = false
		return save(ctx, tx, &r)
	})
	if err == nil {
		s.work(key)
	}
	return err
}

// Enrolled returns the registrations made through an enrolment, with device
// ids above after, in order of device id.
func (s *Service) Enrolled(ctx context.Context, kind link.EnrollmentKind, name, after string, limit int) (ops []Operation, more bool, err error) {
	records, err := sqldb.Rows(ctx, s.db, scanRecord, selectRecord+" WHERE enrollment_kind = ? AND enrollment = ? AND device_id > ? ORDER BY device_id LIMIT ?",
		string(kind), name, after, limit+1)
	for i, r := range records {
		if i == limit {
			return ops, true, err
		}
		ops = append(ops, s.operation(r))
	}
	return ops, false, err
}

func (s *Service) operation(r Record) Operation {
	op := Operation{ID: r.operationID(), Status: StatusAssigning, RetryAfter: s.queue.poll(), Record: r}
	stamp, known := s.directory.Current().Stamp(r.Stamp)
	if r.Phase == link.PhaseAssigned && !r.Open && known {
		op.Status, op.Host = StatusAssigned, stamp.Host
	}
	return op
}

// Get returns a registration with its history.
func (s *Service) Get(ctx context.Context, ref link.RegistrationRef) (link.Registration, error) {
	var r Record
	var known bool
	var err error
	if ref.RegistrationID != "" {
		r, known, err = byKey(ctx, s.db, strings.ToLower(ref.RegistrationID))
	} else {
		r, known, err = byDevice(ctx, s.db, ref.DeviceID)
	}
	if err != nil {
		return link.Registration{}, err
	}
	if !known {
		return link.Registration{}, problem.New(problem.NotFound, "there is no device %q", ref.DeviceID+ref.RegistrationID)
	}
	shown := r.shown()
	shown.History, err = history(ctx, s.db, r.Key)
	return shown, err
}

// commit runs a change, again if a record changed underneath.
func (s *Service) commit(ctx context.Context, change func(context.Context, *sqldb.Tx) error) error {
	for range 10 {
		err := s.db.Commit(ctx, change)
		if !errors.Is(err, errChanged) {
			return err
		}
	}
	return fmt.Errorf("too many changes at once: %w", errChanged)
}

// spec returns the enrolment a device came by; one that is gone is empty.
func (s *Service) spec(ctx context.Context, r Record) (link.EnrollmentSpec, error) {
	e, _, err := enrollment.Load(ctx, s.db, r.EnrollmentKind, r.Enrollment)
	return e.Spec, err
}

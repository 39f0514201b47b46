package registration

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/allocation"
	"github.com/slipway/slipway/internal/provisioning/attestation"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
	"github.com/slipway/slipway/internal/sqldb"
)

// errOnlyTried takes an import back that was a dry run.
var errOnlyTried = errors.New("dry run")

// Import takes over devices that exist already: each is enrolled with the
// credentials it has and gets a place, in one transaction for all. From there a
// device goes the way of every registration, with the twin it brings along. A
// device that is refused keeps none of the others out.
func (s *Service) Import(ctx context.Context, req link.ImportDevices) (link.ImportedDevices, error) {
	if n := len(req.Devices); n == 0 || n > link.MaxImport {
		return link.ImportedDevices{}, problem.New(problem.Invalid, "one import takes over 1 to %d devices, not %d", link.MaxImport, n).At("devices")
	}
	if len(s.directory.Current().In(req.Environment)) == 0 {
		return link.ImportedDevices{}, problem.New(problem.Invalid, "there is no environment %q, or it has no stamp yet that devices could go to", req.Environment).At("environment")
	}
	if come, full := s.queue.full(); full && !req.DryRun {
		return link.ImportedDevices{}, problem.New(problem.Busy, "%d registrations are under way, the most there may be; try again later", maxDue).After(come)
	}
	var result link.ImportedDevices
	var made []string
	err := s.commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		result, made = link.ImportedDevices{}, nil
		for _, d := range req.Devices {
			one, key, err := s.importOne(ctx, tx, req, d)
			if p := problem.Of(err); err != nil {
				if p.Kind == problem.Internal {
					return err
				}
				one = link.ImportedDevice{DeviceID: d.DeviceID, Result: link.ImportRefused, Field: p.Field, Error: p.Message}
			}
			if one.Result == link.ImportCreated {
				made = append(made, key)
			}
			result.Items = append(result.Items, one)
		}
		if req.DryRun {
			return errOnlyTried
		}
		return nil
	})
	if req.DryRun && errors.Is(err, errOnlyTried) {
		return result, nil
	}
	if err != nil {
		return link.ImportedDevices{}, err
	}
	for _, key := range made {
		s.queue.took()
		s.work(key)
	}
	return result, nil
}

// importOne takes over one device. What it refuses it has not touched.
func (s *Service) importOne(ctx context.Context, tx *sqldb.Tx, req link.ImportDevices, d link.ImportDevice) (one link.ImportedDevice, key string, err error) {
	one = link.ImportedDevice{DeviceID: d.DeviceID}
	id := cmp.Or(d.RegistrationID, d.DeviceID)
	if !attestation.ValidID(id) {
		return one, "", problem.New(problem.Invalid, "a device registers by an id of 1 to 128 letters, digits and - . _ : that ends with a letter, a digit or -, unlike %q; give it a registrationId", id).At("registrationId")
	}
	if !identityID.MatchString(d.DeviceID) {
		return one, "", problem.New(problem.Invalid, "a device id has 1 to 128 of letters, digits and -.+%%_#*?!(),:=@$', unlike %q", d.DeviceID).At("deviceId")
	}
	if err := checkTwin(d.Twin); err != nil {
		return one, "", err
	}
	e, known, err := s.enrolmentOf(ctx, tx, req, d, id)
	if err != nil {
		return one, "", err
	}
	entry, err := attestation.NewEntry(e)
	if err != nil {
		return one, "", err
	}
	auth, ok := entry.Credentials(id)
	if !ok {
		return one, "", problem.New(problem.Invalid, "enrolment %s cannot say what the device's credentials at its hub are before it registers", e.Name).At("auth")
	}
	key = strings.ToLower(id)
	r, there, err := byKey(ctx, tx, key)
	if err != nil {
		return one, "", err
	}
	if there {
		one.Result, one.Stamp = link.ImportUnchanged, r.Stamp
		return one, key, sameAs(r, d, auth)
	}
	if other, taken, err := byDevice(ctx, tx, d.DeviceID); err != nil || taken {
		return one, "", errors.Join(err, problem.New(problem.Conflict, "device id %s belongs to registration %s already", d.DeviceID, other.RegistrationID).At("deviceId"))
	}
	now := s.clock()
	r = Record{
		Key: key, RegistrationID: id, DeviceID: d.DeviceID, EnrollmentKind: e.Kind, Enrollment: e.Name, Tenant: cmp.Or(d.Tenant, req.Tenant, e.Spec.Tenant, link.DefaultTenant),
		Environment: req.Environment, Phase: link.PhaseWaiting, Auth: auth, Twin: twinOf(d, e.Spec), Salt: strings.ToLower(rand.Text()[:16]), CreatedAt: now, UpdatedAt: now,
	}
	if e.Spec.Environment != req.Environment {
		r.Target = req.Environment // where the group's other devices go is not meant
	}
	r.Extra.Bound = cmp.Or(d.Stamp, req.Stamp)
	r.note(stepRegistered, "imported", now)
	if err := s.placeImported(ctx, tx, &r, e.Spec, now); err != nil {
		return one, "", err
	}
	if !known {
		if err := enrollment.Add(ctx, tx, e, now); err != nil {
			return one, "", err
		}
	}
	one.Result, one.Stamp = link.ImportCreated, r.Stamp
	return one, key, insert(ctx, tx, &r)
}

// sameAs holds a device that is known already against what was sent of it.
func sameAs(r Record, d link.ImportDevice, auth link.Auth) error {
	if r.DeviceID != d.DeviceID {
		return problem.New(problem.Conflict, "registration %s is device %s already", r.RegistrationID, r.DeviceID).At("registrationId")
	}
	if !reflect.DeepEqual(r.Auth, auth) {
		return problem.New(problem.Conflict, "the device is known already, with other credentials; `slipway enrollment show %s` is what it came by", r.Enrollment).At("auth")
	}
	return nil
}

// placeImported takes a place for a device, which has to be there: nobody
// would look for it while it waits.
func (s *Service) placeImported(ctx context.Context, tx *sqldb.Tx, r *Record, spec link.EnrollmentSpec, now time.Time) error {
	if bound := r.Extra.Bound; bound != "" {
		stamp, known := s.directory.Current().Stamp(bound)
		if !known || stamp.Environment != r.Environment {
			return problem.New(problem.Invalid, "there is no stamp %q in environment %s", bound, r.Environment).At("stamp")
		}
	}
	candidates, err := s.candidates(ctx, tx, r.Environment)
	if err != nil {
		return err
	}
	tenant, err := s.tenantWithRoom(ctx, tx, r)
	if err != nil {
		return err
	}
	name, err := allocation.Choose(r.RegistrationID, r.Environment, tenant, r.bound(r.rule(spec)), candidates)
	if err != nil {
		return err
	}
	stamp, _ := s.directory.Current().Stamp(name)
	if err := r.place(stamp, now); err != nil {
		return err
	}
	return r.take(ctx, tx, 1)
}

// enrolmentOf is what the device is enrolled by: itself, or a group. known
// tells that it is stored already.
func (s *Service) enrolmentOf(ctx context.Context, tx *sqldb.Tx, req link.ImportDevices, d link.ImportDevice, id string) (e link.Enrollment, known bool, err error) {
	if d.Auth == nil || d.Auth.Type == link.AuthCertificate {
		if req.Group == "" {
			return e, false, problem.New(problem.Invalid, "the device has no key and no thumbprint; name the enrolment group whose key or authority its credentials come from").At("auth")
		}
		e, known, err = enrollment.Load(ctx, tx, link.Group, req.Group)
		if err == nil && !known {
			err = problem.New(problem.Invalid, "there is no enrolment group %q", req.Group).At("group")
		}
		return e, known, err
	}
	e = link.Enrollment{Kind: link.Individual, Name: id, Spec: link.EnrollmentSpec{
		DeviceID: d.DeviceID, Environment: req.Environment, Tenant: cmp.Or(d.Tenant, req.Tenant), Reprovision: link.ReprovisionMigrate, Attestation: attestationOf(*d.Auth),
		Edge: d.Twin != nil && d.Twin.Registry != nil && d.Twin.Registry.Edge,
	}}
	if err := enrollment.Check(e); err != nil {
		p := problem.Of(err)
		return e, false, p.At(strings.Replace(strings.TrimPrefix(p.Field, "spec."), "attestation", "auth", 1))
	}
	stored, known, err := enrollment.Load(ctx, tx, link.Individual, id)
	if err != nil || !known {
		return e, false, err
	}
	if !sameAttestation(stored.Spec.Attestation, e.Spec.Attestation) {
		return e, true, problem.New(problem.Conflict, "there is an enrolment %s already, with other credentials", id).At("auth")
	}
	return stored, true, nil
}

func sameAttestation(a, b link.Attestation) bool {
	left, errLeft := json.Marshal(a)
	right, errRight := json.Marshal(b)
	return errLeft == nil && errRight == nil && bytes.Equal(left, right)
}

// attestationOf is how a device proves itself that has these credentials.
func attestationOf(auth link.Auth) link.Attestation {
	if auth.Type == link.AuthSelfSigned {
		return link.Attestation{X509: &link.X509{Thumbprint: auth.PrimaryThumbprint, SecondaryThumbprint: auth.SecondaryThumbprint}}
	}
	secondary := auth.SecondaryKey
	if len(secondary) == 0 {
		secondary = auth.PrimaryKey // a device with one key has it twice, rather than one that nobody knows
	}
	return link.Attestation{SymmetricKey: &link.SymmetricKey{PrimaryKey: base64.StdEncoding.EncodeToString(auth.PrimaryKey), SecondaryKey: base64.StdEncoding.EncodeToString(secondary)}}
}

// twinOf is the twin a device brings along, or else what its enrolment starts
// it with.
func twinOf(d link.ImportDevice, spec link.EnrollmentSpec) *link.TwinContent {
	if d.Twin != nil {
		return d.Twin
	}
	return enrollment.InitialTwin(spec)
}

// The most of each section that a hub takes.
const (
	maxTags    = 8 << 10
	maxSection = 32 << 10
)

// maxModules is how many a device has at most.
const maxModules = 50

var identityID = regexp.MustCompile(`^[A-Za-z0-9\-.+%_#*?!(),:=@$']{1,128}$`)

// checkTwin refuses what a stamp would refuse over and over.
func checkTwin(t *link.TwinContent) error {
	if t == nil {
		return nil
	}
	for _, section := range []struct {
		name string
		text json.RawMessage
		most int
	}{{"tags", t.Tags, maxTags}, {"desired", t.Desired, maxSection}, {"reported", t.Reported, maxSection}} {
		if err := checkSection("twin."+section.name, section.text, section.most); err != nil {
			return err
		}
	}
	if r := t.Registry; r != nil && r.Status != "enabled" && r.Status != "disabled" {
		return problem.New(problem.Invalid, "a status is enabled or disabled, not %q", r.Status).At("status")
	}
	if len(t.Modules) > maxModules {
		return problem.New(problem.TooLarge, "a device has at most %d modules, not %d", maxModules, len(t.Modules)).At("modules")
	}
	for _, m := range t.Modules {
		if !identityID.MatchString(m.ModuleID) {
			return problem.New(problem.Invalid, "a module's id has 1 to 128 of letters, digits and -.+%%_#*?!(),:=@$', unlike %q", m.ModuleID).At("modules")
		}
		if m.Twin != nil && (m.Twin.Registry != nil || len(m.Twin.Modules) > 0) {
			return problem.New(problem.Invalid, "module %s has a twin that is a device's", m.ModuleID).At("modules")
		}
		if err := checkTwin(m.Twin); err != nil {
			return problem.New(problem.Invalid, "module %s: %s", m.ModuleID, problem.Of(err)).At("modules")
		}
	}
	return nil
}

func checkSection(field string, text json.RawMessage, most int) error {
	if len(text) == 0 {
		return nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil || object == nil {
		return problem.New(problem.Invalid, "must be a JSON object").At(field)
	}
	if len(text) > most {
		return problem.New(problem.TooLarge, "has at most %d KB, not %d bytes", most>>10, len(text)).At(field)
	}
	for key := range object {
		if key == "" || strings.ContainsAny(key, ".$ ") {
			return problem.New(problem.Invalid, "the key %q may not be empty or hold a dot, a dollar sign or a space", key).At(field)
		}
	}
	return nil
}

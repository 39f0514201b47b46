package console

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var newEnrollmentPage = newPage("newenrollment.html")

// enrollmentForm is the form that makes an enrolment.
type enrollmentForm struct {
	base
	Environments                   []resource.Environment
	Kind, Name, Environment, Proof string
	Authority                      string   // one that was verified, by its name
	Authorities                    []string // those there are
	Certificate, EndorsementKey    string
	Allocation, Problem            string
}

func (c *console) planEnrollment(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.showEnrollmentForm(w, r, http.StatusOK, enrollmentForm{base: inside(r, s, "enrollments", "New enrolment"), Kind: string(link.Group), Proof: "symmetricKey"})
}

func (c *console) showEnrollmentForm(w http.ResponseWriter, r *http.Request, status int, form enrollmentForm) error {
	var err error
	if form.Environments, err = c.Environments.List(r.Context()); err != nil {
		return err
	}
	authorities, err := c.Fleet.Authorities(r.Context())
	if err != nil {
		return err
	}
	for _, a := range authorities {
		if a.VerifiedAt != nil {
			form.Authorities = append(form.Authorities, a.Name)
		}
	}
	return show(w, r, status, newEnrollmentPage, "", form)
}

func (c *console) makeEnrollment(w http.ResponseWriter, r *http.Request, s access.Session) error {
	f := r.PostForm
	form := enrollmentForm{
		base: inside(r, s, "enrollments", "New enrolment"), Kind: f.Get("kind"), Name: strings.TrimSpace(f.Get("name")), Environment: f.Get("environment"), Proof: f.Get("proof"),
		Authority: f.Get("authority"), Certificate: f.Get("certificate"), EndorsementKey: strings.TrimSpace(f.Get("endorsementKey")), Allocation: f.Get("allocation"),
	}
	req := link.PutEnrollment{Kind: link.EnrollmentKind(form.Kind), Name: form.Name, New: true, Spec: link.EnrollmentSpec{Environment: form.Environment, Attestation: form.attestation()}}
	if form.Allocation != "" {
		req.Spec.Allocation = &link.Allocation{Policy: form.Allocation}
	}
	made, err := c.Fleet.PutEnrollment(r.Context(), s.Actor, req)
	if kind := problem.Of(err).Kind; err != nil && (kind == problem.Invalid || kind == problem.Conflict || kind == problem.TooLarge) {
		form.Problem = problem.Of(err).Error()
		return c.showEnrollmentForm(w, r, statusOf(kind), form)
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, enrollmentURL(made.Kind, made.Name), http.StatusSeeOther)
	return nil
}

func (f enrollmentForm) attestation() link.Attestation {
	switch f.Proof {
	case "x509":
		if f.Authority != "" {
			return link.Attestation{X509: &link.X509{CAReference: f.Authority, CA: f.Certificate}}
		}
		if f.Kind == string(link.Group) {
			return link.Attestation{X509: &link.X509{CA: f.Certificate}}
		}
		return link.Attestation{X509: &link.X509{Certificate: f.Certificate}}
	case "tpm":
		return link.Attestation{TPM: &link.TPM{EndorsementKey: f.EndorsementKey}}
	}
	return link.Attestation{SymmetricKey: &link.SymmetricKey{}} // provisioning makes the keys
}

func enrollmentURL(kind link.EnrollmentKind, name string) string {
	if kind == link.Group {
		return "/enrollment-groups/" + name
	}
	return "/enrollments/" + name
}

// keyBytes is the length of a key made here.
const keyBytes = 64

// changeEnrollment does what the buttons of an enrolment's page say.
func (c *console) changeEnrollment(kind link.EnrollmentKind) sessionHandler {
	return func(w http.ResponseWriter, r *http.Request, s access.Session) error {
		ref := link.EnrollmentRef{Kind: kind, Name: r.PathValue("name")}
		e, err := c.Fleet.Enrollment(r.Context(), ref)
		if err != nil {
			return err
		}
		do := r.PostForm.Get("do")
		switch do {
		case "delete":
			if r.PostForm.Get("sure") != e.Name {
				return problem.New(problem.Invalid, "nothing was deleted: the name typed is not %s", e.Name)
			}
			if err := c.Fleet.DeleteEnrollment(r.Context(), s.Actor, ref); err != nil {
				return err
			}
			http.Redirect(w, r, "/enrollments", http.StatusSeeOther)
			return nil
		case "derive":
			return c.deriveKey(w, r, s, e)
		}
		if err := change(&e.Spec, do); err != nil {
			return err
		}
		if _, err := c.Fleet.PutEnrollment(r.Context(), s.Actor, link.PutEnrollment{Kind: kind, Name: e.Name, IfMatch: e.ETag, Spec: e.Spec}); err != nil {
			return err
		}
		http.Redirect(w, r, enrollmentURL(kind, e.Name), http.StatusSeeOther)
		return nil
	}
}

// change applies a button to a spec.
func change(spec *link.EnrollmentSpec, do string) error {
	if do == "enable" || do == "disable" {
		spec.Disabled = do == "disable"
		return nil
	}
	if spec.Attestation.SymmetricKey == nil {
		return problem.New(problem.Conflict, "the enrolment has no symmetric keys to rotate")
	}
	keys := *spec.Attestation.SymmetricKey
	fresh := make([]byte, keyBytes)
	rand.Read(fresh) // never fails: crypto/rand ends the program instead
	switch do {
	case "primary":
		keys.PrimaryKey = base64.StdEncoding.EncodeToString(fresh)
	case "secondary":
		keys.SecondaryKey = base64.StdEncoding.EncodeToString(fresh)
	case "swap":
		keys.PrimaryKey, keys.SecondaryKey = keys.SecondaryKey, keys.PrimaryKey
	default:
		return problem.New(problem.Invalid, "there is nothing called %q to do", do)
	}
	spec.Attestation.SymmetricKey = &keys
	return nil
}

// deriveKey shows the key of one device of a group. That it was read is
// recorded.
func (c *console) deriveKey(w http.ResponseWriter, r *http.Request, s access.Session, e link.Enrollment) error {
	view := c.enrollmentView(r, s, e)
	view.DerivedFor = strings.TrimSpace(r.PostForm.Get("registration"))
	if e.Kind != link.Group || e.Spec.Attestation.SymmetricKey == nil || view.DerivedFor == "" {
		return problem.New(problem.Invalid, "name the registration id of a device of a group with symmetric keys")
	}
	if err := c.Fleet.SecretsRead(r.Context(), s.Actor, link.EnrollmentRef{Kind: e.Kind, Name: e.Name}); err != nil {
		return err
	}
	key, err := base64.StdEncoding.DecodeString(e.Spec.Attestation.SymmetricKey.PrimaryKey)
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(view.DerivedFor))
	view.Derived = base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return show(w, r, http.StatusOK, enrollmentPage, "", view)
}

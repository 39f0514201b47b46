package console

import (
	"net/http"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

var (
	enrollmentsPage = newPage("enrollments.html")
	enrollmentPage  = newPage("enrollment.html")
)

const enrollmentsPerPage = 100

type enrollmentsView struct {
	base
	Groups, Individuals         link.Enrollments
	NextGroups, NextIndividuals string
	Scope                       string
	Provisioning                string
}

func (c *console) enrollments(w http.ResponseWriter, r *http.Request, s access.Session) error {
	view := enrollmentsView{base: inside(r, s, "enrollments", "Enrolments"), Provisioning: c.Provisioning}
	ctx, q := r.Context(), r.URL.Query()
	var err error
	if view.Groups, err = c.Fleet.Enrollments(ctx, link.ListEnrollments{Kind: link.Group, After: q.Get("afterGroup"), Limit: enrollmentsPerPage}); err != nil {
		return err
	}
	if view.Individuals, err = c.Fleet.Enrollments(ctx, link.ListEnrollments{Kind: link.Individual, After: q.Get("after"), Limit: enrollmentsPerPage}); err != nil {
		return err
	}
	view.NextGroups, view.NextIndividuals = nextOf(view.Groups), nextOf(view.Individuals)
	scope, err := c.Fleet.Scope(ctx)
	if err != nil && !problem.Is(err, problem.NotReady) {
		return err
	}
	view.Scope = scope.IDScope
	return show(w, r, http.StatusOK, enrollmentsPage, "", view)
}

func nextOf(page link.Enrollments) string {
	if !page.More || len(page.Items) == 0 {
		return ""
	}
	return page.Items[len(page.Items)-1].Name
}

type enrollmentView struct {
	base
	link.Enrollment
	Proof               []proof
	Keys                bool // it has symmetric keys
	DerivedFor, Derived string
}

// proof is one thing a device may prove itself with; secrets are not shown.
type proof struct{ Name, Value string }

func (c *console) enrollment(kind link.EnrollmentKind) sessionHandler {
	return func(w http.ResponseWriter, r *http.Request, s access.Session) error {
		found, err := c.Fleet.Enrollment(r.Context(), link.EnrollmentRef{Kind: kind, Name: r.PathValue("name")})
		if err != nil {
			return err
		}
		return show(w, r, http.StatusOK, enrollmentPage, "", c.enrollmentView(r, s, found))
	}
}

func (c *console) enrollmentView(r *http.Request, s access.Session, e link.Enrollment) enrollmentView {
	view := enrollmentView{base: inside(r, s, "enrollments", e.Name), Enrollment: e, Proof: proofOf(e.Spec.Attestation), Keys: e.Spec.Attestation.SymmetricKey != nil}
	view.Spec.Attestation = link.Attestation{} // not even by mistake of a template
	return view
}

// attestation names how devices of an enrolment prove themselves.
func attestation(a link.Attestation) string {
	switch {
	case a.SymmetricKey != nil:
		return "symmetric key"
	case a.TPM != nil:
		return "TPM"
	case a.X509 == nil:
		return "none"
	case a.X509.CA != "":
		return "X.509 authority"
	case a.X509.Certificate != "":
		return "X.509 certificate"
	}
	return "X.509 thumbprint"
}

func proofOf(a link.Attestation) []proof {
	all := []proof{{"Attestation", attestation(a)}}
	add := func(name, value string) {
		if value != "" {
			all = append(all, proof{name, value})
		}
	}
	if a.SymmetricKey != nil {
		add("Keys", "kept by provisioning; `slipway enrollment show --secrets` reads them, and the audit log says who did")
	}
	if a.TPM != nil {
		add("Endorsement key", a.TPM.EndorsementKey)
	}
	if x := a.X509; x != nil {
		add("Verified authority", x.CAReference)
		add("Second verified authority", x.SecondaryCAReference)
		add("Authority", x.CA)
		add("Second authority", x.SecondaryCA)
		add("Certificate", x.Certificate)
		add("Second certificate", x.SecondaryCertificate)
		add("Thumbprint", x.Thumbprint)
		add("Second thumbprint", x.SecondaryThumbprint)
	}
	return all
}

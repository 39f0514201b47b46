package attestation

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sastoken"
)

const scope = "0ne0000abcd"

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// issued is a certificate with its key.
type issued struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (i issued) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}))
}

var serial int64

// issue makes a certificate signed by parent, or by itself without one.
func issue(t testing.TB, name string, parent *issued, change ...func(*x509.Certificate)) issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return issueWith(t, key, name, parent, change...)
}

func issueWith(t testing.TB, key crypto.Signer, name string, parent *issued, change ...func(*x509.Certificate)) issued {
	t.Helper()
	serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), BasicConstraintsValid: true,
	}
	for _, apply := range change {
		apply(template)
	}
	signer := issued{template, key}
	if parent != nil {
		signer = *parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, key.Public(), signer.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issued{cert, key}
}

func authority(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }
func expired(c *x509.Certificate)   { c.NotAfter = now.Add(-time.Minute) }
func early(c *x509.Certificate)     { c.NotBefore = now.Add(time.Minute) }

func entry(t testing.TB, kind link.EnrollmentKind, name string, a link.Attestation, disabled bool) Entry {
	t.Helper()
	e, err := NewEntry(link.Enrollment{Kind: kind, Name: name, Spec: link.EnrollmentSpec{Environment: "test", Attestation: a, Disabled: disabled}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func byCA(ca ...issued) link.Attestation {
	x := &link.X509{CA: ca[0].pem()}
	if len(ca) > 1 {
		x.SecondaryCA = ca[1].pem()
	}
	return link.Attestation{X509: x}
}

func chain(all ...issued) (certs []*x509.Certificate) {
	for _, i := range all {
		certs = append(certs, i.cert)
	}
	return certs
}

func TestGroupByCertificate(t *testing.T) {
	root := issue(t, "root", nil, authority)
	between := issue(t, "between", &root, authority)
	leaf := issue(t, "dev-1", &between)
	direct := issue(t, "dev-1", &root)
	other := issue(t, "root", nil, authority) // the same name, another key
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaRoot := issueWith(t, rsaKey, "rsa root", nil, authority)
	plain := issue(t, "plain", &root) // no authority, yet it signs
	long := root
	deep := []issued{}
	for range 9 {
		long = issue(t, "deep", &long, authority)
		deep = append([]issued{long}, deep...)
	}

	group := func(name string, disabled bool, ca ...issued) Entry {
		return entry(t, link.Group, name, byCA(ca...), disabled)
	}
	byRoot, byBetween := group("by-root", false, root), group("by-between", false, between)
	for _, c := range []struct {
		name   string
		chain  []*x509.Certificate
		groups []Entry
		want   string // the group, or the kind of problem
	}{
		{"leaf alone", chain(direct), []Entry{byRoot}, "by-root"},
		{"leaf with its root", chain(direct, root), []Entry{byRoot}, "by-root"},
		{"through one between", chain(leaf, between), []Entry{byRoot}, "by-root"},
		{"the whole chain", chain(leaf, between, root), []Entry{byRoot}, "by-root"},
		{"in disorder", chain(leaf, root, between), []Entry{byRoot}, "by-root"},
		{"second authority", chain(direct), []Entry{group("both", false, other, root)}, "both"},
		{"RSA signs EC", chain(issue(t, "dev-1", &rsaRoot)), []Entry{group("rsa", false, rsaRoot)}, "rsa"},
		{"another spelling of the id", chain(issue(t, "DEV-1", &root)), []Entry{byRoot}, "by-root"},
		{"the nearest wins", chain(leaf, between, root), []Entry{byRoot, byBetween}, "by-between"},
		{"the nearest wins for a leaf alone", chain(leaf), []Entry{byRoot, byBetween}, "by-between"},
		{"a disabled nearest refuses", chain(leaf, between, root), []Entry{byRoot, group("off", true, between)}, "denied"},
		{"a disabled farther one does not", chain(leaf, between, root), []Entry{group("off", true, root), byBetween}, "by-between"},
		{"the between is missing", chain(leaf), []Entry{byRoot}, "unauthenticated"},
		{"another root of that name", chain(direct), []Entry{group("other", false, other)}, "unauthenticated"},
		{"root brought along but not enrolled", chain(direct, root), []Entry{group("other", false, other)}, "unauthenticated"},
		{"no groups", chain(direct), nil, "unauthenticated"},
		{"other common name", chain(issue(t, "dev-2", &root)), []Entry{byRoot}, "unauthenticated"},
		{"expired leaf", chain(issue(t, "dev-1", &root, expired)), []Entry{byRoot}, "unauthenticated"},
		{"leaf not yet valid", chain(issue(t, "dev-1", &root, early)), []Entry{byRoot}, "unauthenticated"},
		{"signed by one that is no authority", chain(issue(t, "dev-1", &plain), plain), []Entry{byRoot}, "unauthenticated"},
		{"the authority itself as device", chain(issue(t, "dev-1", nil, authority)), nil, "unauthenticated"},
		{"self-signed", chain(issue(t, "dev-1", nil)), []Entry{byRoot}, "unauthenticated"},
		{"too long a chain", chain(append([]issued{issue(t, "dev-1", &long)}, deep...)...), []Entry{byRoot}, "unauthenticated"},
	} {
		proof, err := Attest(Claim{Scope: scope, RegistrationID: "dev-1", Chain: c.chain}, nil, NewGroups(c.groups), now)
		check(t, c.name, proof, err, c.want)
		if err == nil && (proof.Auth.Type != link.AuthCertificate || len(proof.Auth.CA) == 0) {
			t.Errorf("%s: credentials at the hub %+v", c.name, proof.Auth.Type)
		}
	}
	old := issue(t, "old", nil, authority, expired)
	_, err = Attest(Claim{Scope: scope, RegistrationID: "dev-1", Chain: chain(issue(t, "dev-1", &old))}, nil, NewGroups([]Entry{group("old", false, old)}), now)
	check(t, "expired authority", Proof{}, err, "unauthenticated")
	self := issue(t, "dev-1", nil, authority)
	_, err = Attest(Claim{Scope: scope, RegistrationID: "dev-1", Chain: chain(self)}, nil, NewGroups([]Entry{group("self", false, self)}), now)
	check(t, "an enrolled authority as device", Proof{}, err, "unauthenticated")
}

// TestBothAuthoritiesOfAnEnrolmentHoldAtTheHub says what a stamp is told when a
// device registers, and when its enrolment changes.
func TestBothAuthoritiesOfAnEnrolmentHoldAtTheHub(t *testing.T) {
	first, second := issue(t, "first", nil, authority), issue(t, "second", nil, authority)
	both := entry(t, link.Group, "both", byCA(first, second), false)
	proof, err := Attest(Claim{RegistrationID: "dev-1", Chain: chain(issue(t, "dev-1", &second))}, nil, NewGroups([]Entry{both}), now)
	if err != nil {
		t.Fatal(err)
	}
	all, err := x509.ParseCertificates(proof.Auth.CA)
	if err != nil || len(all) != 2 || !all[0].Equal(first.cert) || !all[1].Equal(second.cert) {
		t.Errorf("at the hub: %d authorities, %v", len(all), err)
	}
	if told, ok := both.Credentials("dev-1"); !ok || !reflect.DeepEqual(told, proof.Auth) {
		t.Errorf("told %+v of the change, %+v of the registration", told, proof.Auth)
	}
}

func check(t *testing.T, name string, proof Proof, err error, want string) {
	t.Helper()
	got := proof.Enrollment.Name
	if err != nil {
		got = string(problem.Of(err).Kind)
	}
	if got != want {
		t.Errorf("%s: got %s (%v), want %s", name, got, err, want)
	}
}

func TestIndividualByCertificate(t *testing.T) {
	root := issue(t, "root", nil, authority)
	leaf, spare := issue(t, "dev-1", nil), issue(t, "dev-1", nil)
	short, long := Thumbprints(leaf.cert)
	colons := strings.ToUpper(short[:2])
	for i := 2; i < len(short); i += 2 {
		colons += ":" + strings.ToUpper(short[i:i+2])
	}
	individual := func(x link.X509) *Entry {
		e := entry(t, link.Individual, "dev-1", link.Attestation{X509: &x}, false)
		return &e
	}
	group := NewGroups([]Entry{entry(t, link.Group, "group", byCA(root), false)})
	for _, c := range []struct {
		name  string
		x     link.X509
		chain []*x509.Certificate
		want  string
		auth  link.AuthType
	}{
		{"the certificate", link.X509{Certificate: leaf.pem()}, chain(leaf), "dev-1", link.AuthSelfSigned},
		{"the second certificate", link.X509{Certificate: spare.pem(), SecondaryCertificate: leaf.pem()}, chain(leaf), "dev-1", link.AuthSelfSigned},
		{"SHA-1", link.X509{Thumbprint: short}, chain(leaf), "dev-1", link.AuthSelfSigned},
		{"SHA-1 with colons in capitals", link.X509{Thumbprint: colons}, chain(leaf), "dev-1", link.AuthSelfSigned},
		{"SHA-256, second", link.X509{Thumbprint: strings.Repeat("0", 64), SecondaryThumbprint: long}, chain(leaf), "dev-1", link.AuthSelfSigned},
		{"its authority", link.X509{CA: root.pem()}, chain(issue(t, "dev-1", &root)), "dev-1", link.AuthCertificate},
		{"another certificate", link.X509{Certificate: leaf.pem()}, chain(spare), "unauthenticated", ""},
		{"another certificate, though a group would take it", link.X509{Certificate: leaf.pem()}, chain(issue(t, "dev-1", &root)), "unauthenticated", ""},
		{"another authority", link.X509{CA: root.pem()}, chain(leaf), "unauthenticated", ""},
		{"the certificate as part of a chain", link.X509{Certificate: leaf.pem()}, chain(spare, leaf), "unauthenticated", ""},
	} {
		proof, err := Attest(Claim{Scope: scope, RegistrationID: "dev-1", Chain: c.chain}, individual(c.x), group, now)
		check(t, c.name, proof, err, c.want)
		if proof.Auth.Type != c.auth {
			t.Errorf("%s: %s at the hub", c.name, proof.Auth.Type)
		}
	}
	late := issue(t, "dev-1", nil, expired)
	_, err := Attest(Claim{Scope: scope, RegistrationID: "dev-1", Chain: chain(late)}, individual(link.X509{Certificate: late.pem()}), group, now)
	check(t, "enrolled but expired", Proof{}, err, "unauthenticated")
}

func keys(primary, secondary string) link.Attestation {
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	return link.Attestation{SymmetricKey: &link.SymmetricKey{PrimaryKey: encode(primary), SecondaryKey: encode(secondary)}}
}

func TestByToken(t *testing.T) {
	const a, b, c = "primary key of it", "secondary key of it", "another group's key"
	token := func(key []byte, resource string, ends time.Duration) string {
		return sastoken.Sign(key, resource, now.Add(ends), "registration")
	}
	const resource = scope + "%2Fregistrations%2Fdev-1"
	derived := func(key string) []byte { return sastoken.DeriveKey([]byte(key), "dev-1") }
	own := entry(t, link.Individual, "dev-1", keys(a, b), false)
	off := entry(t, link.Individual, "dev-1", keys(a, b), true)
	groups := []Entry{entry(t, link.Group, "first", keys(c, c+"2"), false), entry(t, link.Group, "second", keys(a, b), false)}
	shut := []Entry{entry(t, link.Group, "shut", keys(a, b), true)}
	for _, c := range []struct {
		name       string
		token      string
		individual *Entry
		groups     []Entry
		want       string
	}{
		{"individual, primary", token([]byte(a), resource, time.Hour), &own, nil, "dev-1"},
		{"individual, secondary, raw resource", token([]byte(b), scope+"/registrations/dev-1", time.Hour), &own, nil, "dev-1"},
		{"individual disabled", token([]byte(a), resource, time.Hour), &off, nil, "denied"},
		{"individual disabled, wrong key", token([]byte(c), resource, time.Hour), &off, nil, "unauthenticated"},
		{"individual, another key", token([]byte(c), resource, time.Hour), &own, nil, "unauthenticated"},
		{"individual decides alone", token(derived(a), resource, time.Hour), &own, groups, "unauthenticated"},
		{"group, derived from primary", token(derived(a), resource, time.Hour), nil, groups, "second"},
		{"group, derived from secondary", token(derived(b), resource, time.Hour), nil, groups, "second"},
		{"the group's own key", token([]byte(a), resource, time.Hour), nil, groups, "unauthenticated"},
		{"derived for another id", token(sastoken.DeriveKey([]byte(a), "dev-2"), resource, time.Hour), nil, groups, "unauthenticated"},
		{"group disabled", token(derived(a), resource, time.Hour), nil, shut, "denied"},
		{"one disabled, one not", token(derived(a), resource, time.Hour), nil, append(shut, groups...), "second"},
		{"within the skew", token(derived(a), resource, -4*time.Minute), nil, groups, "second"},
		{"expired", token(derived(a), resource, -6*time.Minute), nil, groups, "unauthenticated"},
		{"another id's resource", token(derived(a), scope+"%2Fregistrations%2Fdev-2", time.Hour), nil, groups, "unauthenticated"},
		{"another scope", token(derived(a), "0ne11111111%2Fregistrations%2Fdev-1", time.Hour), nil, groups, "unauthenticated"},
		{"no token at all", "", nil, groups, "unauthenticated"},
		{"nonsense", "SharedAccessSignature sr=x", nil, groups, "unauthenticated"},
	} {
		proof, err := Attest(Claim{Scope: scope, RegistrationID: "dev-1", Token: c.token}, c.individual, NewGroups(c.groups), now)
		check(t, c.name, proof, err, c.want)
		if err == nil && (proof.Auth.Type != link.AuthSAS || len(proof.Auth.PrimaryKey) == 0 || len(proof.Auth.SecondaryKey) == 0) {
			t.Errorf("%s: not both keys go to the hub", c.name)
		}
	}
	proof, err := Attest(Claim{Scope: scope, RegistrationID: "dev-1", Token: token(derived(b), resource, time.Hour)}, nil, NewGroups(groups), now)
	if err != nil || !slices.Equal(proof.Auth.PrimaryKey, derived(a)) || !slices.Equal(proof.Auth.SecondaryKey, derived(b)) {
		t.Errorf("the hub gets other keys than the derived ones: %v", err)
	}
}

func TestEntriesSayWhatIsWrong(t *testing.T) {
	root, leaf := issue(t, "root", nil, authority), issue(t, "dev-1", nil)
	for field, c := range map[string]struct {
		kind link.EnrollmentKind
		a    link.Attestation
	}{
		"spec.attestation":                           {link.Group, link.Attestation{}},
		"spec.attestation.symmetricKey.primaryKey":   {link.Group, keys("short", "long enough to be a key")},
		"spec.attestation.symmetricKey.secondaryKey": {link.Individual, keys("long enough to be a key", strings.Repeat("x", 65))},
		"spec.attestation.x509":                      {link.Group, link.Attestation{X509: &link.X509{CA: root.pem(), Thumbprint: "00"}}},
		"spec.attestation.x509.ca":                   {link.Group, byCA(leaf)},
		"spec.attestation.x509.secondaryCA":          {link.Group, byCA(root, leaf)},
		"spec.attestation.x509.thumbprint":           {link.Individual, link.Attestation{X509: &link.X509{Thumbprint: "abc"}}},
		"spec.attestation.x509.certificate":          {link.Individual, link.Attestation{X509: &link.X509{Certificate: leaf.pem() + root.pem()}}},
	} {
		_, err := NewEntry(link.Enrollment{Kind: c.kind, Spec: link.EnrollmentSpec{Attestation: c.a}})
		if p := problem.Of(err); p.Kind != problem.Invalid || p.Field != field {
			t.Errorf("%s: got field %s, %v", field, p.Field, err)
		}
	}
}

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "Dev-1_x.y:z": true, "ends-with-": true, strings.Repeat("x", 128): true,
		"": false, "ends.": false, "sp ace": false, "slash/": false, "ünicode": false, strings.Repeat("x", 129): false,
	} {
		if ValidID(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}

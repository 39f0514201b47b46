// Package dpswire is what the two edges of the provisioning protocol have in
// common: the shapes of its answers and failures.
package dpswire

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/attestation"
	"github.com/slipway/slipway/internal/provisioning/registration"
)

// MaxBody is the most bytes a device may send: the documented 96 KB.
const MaxBody = 96 << 10

// Request is what a device sends to register.
type Request struct {
	RegistrationID string          `json:"registrationId"`
	Payload        json.RawMessage `json:"payload"`
	CSR            []byte          `json:"csr"` // PKCS #10 in DER
	TPM            *struct {
		EndorsementKey string `json:"endorsementKey"`
		StorageRootKey string `json:"storageRootKey"`
	} `json:"tpm"`
}

// Ask is the part that is not about who the device is.
func (r Request) Ask() registration.Ask { return registration.Ask{Payload: r.Payload, CSR: r.CSR} }

// ReadRequest reads the body of a registration; an empty one is allowed. A
// registration id in it must be the device's own.
func ReadRequest(body []byte, registrationID string) (req Request, err error) {
	if len(body) > MaxBody {
		return req, problem.New(problem.TooLarge, "the body has at most %d bytes, not %d", MaxBody, len(body))
	}
	if len(strings.TrimSpace(string(body))) == 0 {
		return req, nil
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return req, problem.New(problem.Invalid, "the body is not the JSON it should be: %w", err)
	}
	if req.RegistrationID != "" && !strings.EqualFold(req.RegistrationID, registrationID) {
		return req, problem.New(problem.Invalid, "the registration id in the body is not the device's own").At("registrationId")
	}
	return req, nil
}

// Challenged is the answer to a device that wants to prove its TPM: 401, and a
// key that only this TPM can use.
func Challenged(sealed []byte, now time.Time) []byte {
	return ascii(map[string]any{
		"errorCode": 401002, "trackingId": uuid.NewString(), "message": "Sign with the key for your TPM.", "timestampUtc": Stamp(now),
		"authenticationKey": sealed, "keyName": "registration",
	})
}

// status is an operation as devices are told it.
type status struct {
	OperationID string      `json:"operationId,omitempty"`
	Status      string      `json:"status"`
	State       *StateOfOne `json:"registrationState,omitempty"`
}

// StateOfOne is a registration as devices and back ends are told it.
type StateOfOne struct {
	RegistrationID string        `json:"registrationId"`
	Created        string        `json:"createdDateTimeUtc"`
	AssignedHub    string        `json:"assignedHub,omitempty"`
	DeviceID       string        `json:"deviceId,omitempty"`
	Status         string        `json:"status"`
	Substatus      string        `json:"substatus,omitempty"`
	LastUpdated    string        `json:"lastUpdatedDateTimeUtc"`
	ETag           string        `json:"etag"`
	SymmetricKey   *byGroup      `json:"symmetricKey,omitempty"`
	X509           *x509Identity `json:"x509,omitempty"`
	TPM            *sealedKey    `json:"tpm,omitempty"`
	// Payload is what a webhook wants the device to have, Chain the certificate
	// it asked for, leaf first.
	Payload json.RawMessage `json:"payload,omitempty"`
	Chain   [][]byte        `json:"issuedCertificateChain,omitempty"`
}

type sealedKey struct {
	AuthenticationKey []byte `json:"authenticationKey"`
}

type byGroup struct {
	EnrollmentGroupID string `json:"enrollmentGroupId,omitempty"`
}

type x509Identity struct {
	CertificateInfo   *CertificateInfo `json:"certificateInfo,omitempty"`
	EnrollmentGroupID string           `json:"enrollmentGroupId,omitempty"`
}

// CertificateInfo describes a certificate as the protocol does.
type CertificateInfo struct {
	SubjectName      string `json:"subjectName"`
	SHA1Thumbprint   string `json:"sha1Thumbprint"`
	SHA256Thumbprint string `json:"sha256Thumbprint"`
	IssuerName       string `json:"issuerName"`
	NotBefore        string `json:"notBeforeUtc"`
	NotAfter         string `json:"notAfterUtc"`
	SerialNumber     string `json:"serialNumber"`
	Version          int    `json:"version"`
}

// Answer renders an operation and says with which status it is sent: 202 while
// it runs, 200 when it is done. The JSON is ASCII, as some SDKs decode no more.
func Answer(op registration.Operation, leaf *x509.Certificate) (code int, body []byte) {
	answer := status{OperationID: op.ID, Status: op.Status}
	if op.Status != registration.StatusAssigned {
		return http.StatusAccepted, ascii(answer)
	}
	shown := stateOf(op, leaf)
	shown.Chain = op.Record.Extra.Chain
	answer.State = &shown
	return http.StatusOK, ascii(answer)
}

// One is a registration for back ends.
func One(op registration.Operation) StateOfOne {
	s := stateOf(op, nil)
	if op.Record.Phase == link.PhaseWaiting && !op.Record.Open {
		s.Status = "unassigned"
	}
	return s
}

// State renders the registration itself, for the status look-up.
func State(op registration.Operation, leaf *x509.Certificate) []byte { return ascii(stateOf(op, leaf)) }

func stateOf(op registration.Operation, leaf *x509.Certificate) StateOfOne {
	r := op.Record
	s := StateOfOne{
		RegistrationID: r.RegistrationID, Created: Stamp(r.CreatedAt), Status: op.Status, LastUpdated: Stamp(r.UpdatedAt),
		ETag: fmt.Sprintf("%q", fmt.Sprint(r.Version)),
	}
	if op.Status == registration.StatusAssigned {
		s.AssignedHub, s.DeviceID, s.Substatus = op.Host, r.DeviceID, r.Substatus
		if r.Extra.Choice != nil {
			s.Payload = r.Extra.Choice.Payload
		}
	}
	if r.Extra.Sealed != nil {
		s.TPM = &sealedKey{r.Extra.Sealed}
		return s
	}
	group := ""
	if r.EnrollmentKind == link.Group {
		group = r.Enrollment
	}
	if r.Auth.Type == link.AuthSAS {
		s.SymmetricKey = &byGroup{group}
		return s
	}
	s.X509 = &x509Identity{EnrollmentGroupID: group}
	if leaf != nil {
		info := Describe(leaf)
		s.X509.CertificateInfo = &info
	}
	return s
}

// Describe describes a certificate.
func Describe(c *x509.Certificate) CertificateInfo {
	short, long := attestation.Thumbprints(c)
	return CertificateInfo{
		c.Subject.String(), strings.ToUpper(short), strings.ToUpper(long), c.Issuer.String(),
		Stamp(c.NotBefore), Stamp(c.NotAfter), strings.ToUpper(c.SerialNumber.Text(16)), c.Version,
	}
}

// Stamp is a moment as the protocol writes it.
func Stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

// failure is the body of an answer that is none.
type failure struct {
	ErrorCode  int    `json:"errorCode"`
	TrackingID string `json:"trackingId"`
	Message    string `json:"message"`
	Timestamp  string `json:"timestampUtc"`
}

// codes are the status and the number of each kind of failure. Statuses of 429
// and above are tried again by devices for ever, so nothing that stays wrong
// has one.
var codes = map[problem.Kind][2]int{
	problem.Invalid: {400, 400004}, problem.Unauthenticated: {401, 401002}, problem.Denied: {401, 401002}, problem.NotFound: {404, 404201},
	problem.Conflict: {409, 409201}, problem.Stale: {412, 412001}, problem.TooLarge: {413, 413001}, problem.Busy: {429, 429001},
	problem.NotReady: {503, 503001}, problem.TimedOut: {503, 503001}, problem.Internal: {500, 500001},
}

// ErrorCode is the number by which the protocol knows an error.
func ErrorCode(err error) int { return codes[problem.Of(err).Kind][1] }

// Failure renders an error, with how many seconds to wait where that helps.
func Failure(err error, now time.Time) (code, retryAfter int, body []byte) {
	p := problem.Of(err)
	numbers := codes[p.Kind]
	if numbers[0] >= http.StatusTooManyRequests {
		retryAfter = max(1, int(math.Ceil(p.RetryAfter.Seconds())))
	}
	return numbers[0], retryAfter, ascii(failure{numbers[1], uuid.NewString(), p.Message, Stamp(now)})
}

// Seconds is a wait as the protocol spells it: whole seconds, at least one.
func Seconds(d time.Duration) int { return max(1, int(math.Ceil(d.Seconds()))) }

// ascii is JSON with everything beyond ASCII escaped.
func ascii(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		return []byte(`{"errorCode":500001,"message":"internal"}`)
	}
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return []byte(b.String())
}

// IsFinal reports whether the error is one that a device cannot mend by
// trying again.
func IsFinal(err error) bool {
	var p *problem.Error
	return errors.As(err, &p) && codes[p.Kind][0] < http.StatusTooManyRequests
}

// Package dpshttp is the provisioning protocol's HTTPS edge.
package dpshttp

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/attestation"
	"github.com/slipway/slipway/internal/provisioning/dpswire"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
	"github.com/slipway/slipway/internal/provisioning/registration"
)

// Edge serves devices that register.
type Edge struct {
	scope       string
	enrollments *enrollment.Enrollments
	service     *registration.Service
	logger      *slog.Logger
	now         func() time.Time
}

// New returns the edge of an id scope.
func New(scope string, e *enrollment.Enrollments, s *registration.Service, logger *slog.Logger, now func() time.Time) *Edge {
	return &Edge{scope, e, s, logger, now}
}

// path is /{scope}/registrations/{id}[/{verb}[/{operation}]] taken apart.
type path struct{ scope, id, verb, operation string }

// parsePath reads the path as it was sent, so that ids may hold anything that
// is percent-encoded.
func parsePath(escaped string) (p path, ok bool) {
	parts := strings.Split(strings.Trim(escaped, "/"), "/")
	if len(parts) < 3 || len(parts) > 5 || !strings.EqualFold(parts[1], "registrations") {
		return p, false
	}
	for i, into := range []*string{&p.scope, nil, &p.id, &p.verb, &p.operation} {
		if into == nil || i >= len(parts) {
			continue
		}
		text, err := url.PathUnescape(parts[i])
		if err != nil {
			return p, false
		}
		*into = text
	}
	return p, p.id != ""
}

// ServeHTTP answers register, operation look-up and status look-up.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	code, retry, body := e.serve(r, header)
	header.Set("Content-Type", "application/json; charset=utf-8")
	if retry > 0 {
		header.Set("Retry-After", strconv.Itoa(retry))
	}
	if code == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", "SharedAccessSignature")
	}
	w.WriteHeader(code)
	if _, err := w.Write(body); err != nil {
		e.logger.Debug("answer not delivered", "error", err)
	}
}

func (e *Edge) serve(r *http.Request, header http.Header) (code, retry int, body []byte) {
	op, leaf, lookup, err := e.call(r)
	var asked challenge
	if errors.As(err, &asked) {
		return http.StatusUnauthorized, 0, dpswire.Challenged(asked, e.now())
	}
	if err != nil {
		if problem.Is(err, problem.Internal) {
			e.logger.Error("registration failed", "path", r.URL.Path, "error", err)
		}
		header.Set("X-Ms-Error-Code", strconv.Itoa(dpswire.ErrorCode(err)))
		return dpswire.Failure(err, e.now())
	}
	if lookup {
		return http.StatusOK, 0, dpswire.State(op, leaf)
	}
	code, body = dpswire.Answer(op, leaf)
	if code == http.StatusAccepted {
		retry = dpswire.Seconds(op.RetryAfter)
		header.Set("Location", e.location(op))
	}
	return code, retry, body
}

// challenge is a key for a TPM that its device has not proven yet.
type challenge []byte

// Error implements error.
func (challenge) Error() string { return "the TPM has not been proven yet" }

// location is where an operation is polled.
func (e *Edge) location(op registration.Operation) string {
	return "/" + e.scope + "/registrations/" + url.PathEscape(op.Record.RegistrationID) + "/operations/" + url.PathEscape(op.ID)
}

func (e *Edge) call(r *http.Request) (op registration.Operation, leaf *x509.Certificate, lookup bool, err error) {
	p, ok := parsePath(r.URL.EscapedPath())
	if !ok {
		return op, nil, false, problem.New(problem.NotFound, "there is no such path; devices register at /{idScope}/registrations/{id}/register")
	}
	body, err := readBody(r)
	if err != nil {
		return op, nil, false, err
	}
	registers := r.Method == http.MethodPut && p.verb == "register" && p.operation == ""
	var request dpswire.Request
	if registers {
		if request, err = dpswire.ReadRequest(body, p.id); err != nil {
			return op, nil, false, err
		}
	}
	proof, leaf, err := e.attest(r, p, request)
	if err != nil {
		return op, nil, false, err
	}
	ctx := r.Context()
	switch {
	case registers:
		op, err = e.service.Register(ctx, p.id, proof, request.Ask())
	case r.Method == http.MethodGet && p.verb == "operations" && p.operation != "":
		op, err = e.service.Poll(ctx, p.id, p.operation)
	case r.Method == http.MethodPost && p.verb == "":
		op, err = e.service.Lookup(ctx, p.id)
		lookup = true
	default:
		err = problem.New(problem.NotFound, "there is no %s here", r.Method)
	}
	return op, leaf, lookup, err
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, dpswire.MaxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, problem.New(problem.TooLarge, "the body has at most %d bytes", dpswire.MaxBody)
	}
	if err != nil {
		return nil, problem.New(problem.Invalid, "the body cannot be read: %w", err)
	}
	return body, nil
}

func (e *Edge) attest(r *http.Request, p path, request dpswire.Request) (attestation.Proof, *x509.Certificate, error) {
	if !strings.EqualFold(p.scope, e.scope) {
		return attestation.Proof{}, nil, problem.New(problem.Unauthenticated, "there is no such id scope here")
	}
	claim := attestation.Claim{Scope: e.scope, RegistrationID: p.id, Token: r.Header.Get("Authorization")}
	var leaf *x509.Certificate
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		claim.Chain, leaf = r.TLS.PeerCertificates, r.TLS.PeerCertificates[0]
	}
	if keys := request.TPM; keys != nil {
		tpm, err := attestation.ReadTPM(keys.EndorsementKey, keys.StorageRootKey)
		if err != nil {
			return attestation.Proof{}, leaf, err
		}
		claim.TPM = tpm
	}
	if claim.TPM != nil && claim.Token == "" && leaf == nil && attestation.ValidID(p.id) {
		sealed, err := e.enrollments.Challenge(claim)
		if err != nil {
			return attestation.Proof{}, leaf, problem.New(problem.Invalid, "the TPM's keys cannot be used: %w", err).At("tpm")
		}
		return attestation.Proof{}, leaf, challenge(sealed)
	}
	proof, err := e.enrollments.Attest(r.Context(), claim)
	if err != nil {
		return proof, leaf, fmt.Errorf("registration %s: %w", p.id, err)
	}
	return proof, leaf, nil
}

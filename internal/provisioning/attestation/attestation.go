// Package attestation decides whether a device is who it says it is, and by
// which enrolment. It is pure: enrolments, the device's claim and the time go
// in, a proof or the reason against it comes out.
package attestation

import (
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sastoken"
)

const (
	// skew is how far a device's clock may be behind ours when its token ends.
	skew = 5 * time.Minute
	// maxChain is the most certificates a device may present.
	maxChain = 8
)

// Claim is what a device presents: its id and either a token or a certificate
// chain with the leaf first.
type Claim struct {
	Scope          string
	RegistrationID string // as the device spells it
	Token          string
	Chain          []*x509.Certificate
	TPM            *TPM // the keys a device sends along
}

// Proof says by which enrolment a claim holds, and what the device's
// credentials at its hub will be.
type Proof struct {
	Enrollment link.Enrollment
	Auth       link.Auth
	Sealed     []byte // its key, for the TPM to open
}

// refused is the one answer to every claim that does not hold, so that nobody
// learns which ids are enrolled.
func refused(cause error) error {
	if cause == nil {
		return problem.New(problem.Unauthenticated, "the credentials do not fit an enrolment of this registration id")
	}
	return problem.New(problem.Unauthenticated, "the credentials do not fit an enrolment of this registration id: %w", cause)
}

// disabled is what a device is told that has proven itself to an enrolment
// which is switched off.
func disabled(e link.Enrollment) error {
	return problem.New(problem.Denied, "the enrolment %q is disabled", e.Name)
}

// Attest checks a claim. An individual enrolment of the id alone decides when
// there is one; otherwise the groups do.
func Attest(claim Claim, individual *Entry, groups *Groups, now time.Time) (Proof, error) {
	var proof Proof
	var err error
	switch {
	case !ValidID(claim.RegistrationID):
		return Proof{}, refused(nil)
	case claim.Token != "":
		proof, err = byToken(claim, individual, groups, now)
	case len(claim.Chain) > 0:
		proof, err = byCertificate(claim, individual, groups, now)
	default:
		return Proof{}, refused(errors.New("neither a token nor a client certificate was presented"))
	}
	if err != nil {
		return Proof{}, err
	}
	if proof.Enrollment.Spec.Disabled {
		return Proof{}, disabled(proof.Enrollment)
	}
	return proof, nil
}

func byToken(claim Claim, individual *Entry, groups *Groups, now time.Time) (Proof, error) {
	token, err := sastoken.Parse(claim.Token)
	if err != nil {
		return Proof{}, refused(err)
	}
	if !token.Covers(claim.Scope, "registrations", claim.RegistrationID) {
		return Proof{}, refused(errors.New("the token is for another resource"))
	}
	if individual != nil && individual.endorsementKey != nil {
		return proveTPM(*individual, claim, token, now)
	}
	if individual != nil {
		return proveKeys(*individual, individual.keys, token, now)
	}
	var found Proof
	err = refused(nil)
	for _, group := range groups.entries {
		// A device of a group holds a derived key; the group's own key
		// authenticates nobody.
		keys := make([][]byte, 0, 2)
		for _, key := range group.keys {
			keys = append(keys, sastoken.DeriveKey(key, claim.RegistrationID))
		}
		proof, failed := proveKeys(group, keys, token, now)
		switch {
		case failed == nil && !proof.Enrollment.Spec.Disabled:
			return proof, nil
		case failed == nil:
			found, err = proof, nil
		case errors.Is(failed, sastoken.ErrExpired) && err != nil:
			err = failed
		}
	}
	return found, err
}

// proveKeys checks the token against an entry's keys.
func proveKeys(e Entry, keys [][]byte, token sastoken.Token, now time.Time) (Proof, error) {
	err := refused(nil)
	for _, key := range keys {
		failed := token.Verify(key, now, skew)
		if failed == nil {
			return Proof{Enrollment: e.Enrollment, Auth: keyAuth(keys)}, nil
		}
		if errors.Is(failed, sastoken.ErrExpired) {
			err = refused(failed)
		}
	}
	return Proof{}, err
}

func keyAuth(keys [][]byte) link.Auth {
	auth := link.Auth{Type: link.AuthSAS, PrimaryKey: keys[0]}
	if len(keys) > 1 {
		auth.SecondaryKey = keys[1]
	}
	return auth
}

// ValidID reports whether id may be a registration id: up to 128 letters,
// digits and - . _ : with a letter, digit or - at the end.
func ValidID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		if !isAlphanumeric(id[i]) && !strings.ContainsRune("-._:", rune(id[i])) {
			return false
		}
	}
	last := id[len(id)-1]
	return isAlphanumeric(last) || last == '-'
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

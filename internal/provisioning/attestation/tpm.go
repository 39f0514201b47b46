package attestation

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sastoken"
)

// TPM is what a device shows of its TPM 2.0: the public parts of the
// endorsement key and of the storage root key, each a TPM2B_PUBLIC.
type TPM struct{ EndorsementKey, StorageRootKey []byte }

// maxTPMPublic bounds a public area; an RSA-2048 one has 316 bytes.
const maxTPMPublic = 1024

// ReadTPM reads the two keys as devices send them, in base64.
func ReadTPM(endorsementKey, storageRootKey string) (*TPM, error) {
	var t TPM
	for _, part := range []struct {
		field, text string
		into        *[]byte
	}{{"endorsementKey", endorsementKey, &t.EndorsementKey}, {"storageRootKey", storageRootKey, &t.StorageRootKey}} {
		key, err := base64.StdEncoding.DecodeString(part.text)
		if err != nil || len(key) > maxTPMPublic {
			return nil, problem.New(problem.Invalid, "must be the base64 of a TPM2B_PUBLIC").At("tpm." + part.field)
		}
		if _, err := publicArea(key); err != nil {
			return nil, problem.New(problem.Invalid, "must be the base64 of a TPM2B_PUBLIC of an RSA key: %w", err).At("tpm." + part.field)
		}
		*part.into = key
	}
	return &t, nil
}

func publicArea(key []byte) (*tpm2.TPMTPublic, error) {
	area, err := tpm2.Unmarshal[tpm2.TPM2BPublic](key)
	if err != nil {
		return nil, err
	}
	return area.Contents()
}

// sessionWindow is how long a key handed out to prove a TPM is good for at
// least; it is good for at most twice that.
const sessionWindow = time.Hour

// sessionKey is the key with which a TPM proves itself. It is made anew from
// the secret every time, so nothing has to be kept of devices that only ask.
func sessionKey(secret []byte, id string, endorsementKey []byte, window int64) []byte {
	return derived(secret, "session", id, endorsementKey, strconv.FormatInt(window, 10))
}

// hubKey is the key a device with a TPM has at its hub.
func hubKey(secret []byte, id string, endorsementKey []byte) []byte {
	return derived(secret, "hub", id, endorsementKey, "")
}

func derived(secret []byte, purpose, id string, endorsementKey []byte, more string) []byte {
	mac := hmac.New(sha256.New, secret)
	for _, part := range []string{purpose, strings.ToLower(id), string(endorsementKey), more} {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		mac.Write([]byte(part))
	}
	return mac.Sum(nil)
}

func windowOf(now time.Time) int64 { return now.Unix() / int64(sessionWindow/time.Second) }

// Challenge is a key sealed for a TPM: whoever has that TPM can use it, and so
// prove it. Anybody may have a challenge for their own TPM, whether they are
// enrolled or not, so that nobody learns who is.
func Challenge(secret []byte, id string, t TPM, now time.Time) ([]byte, error) {
	return seal(t, sessionKey(secret, id, t.EndorsementKey, windowOf(now)))
}

// readTPM takes the endorsement key of an individual enrolment.
func (e *Entry) readTPM(t link.TPM) error {
	if e.Enrollment.Kind == link.Group {
		return problem.New(problem.Invalid, "a TPM attests an individual enrolment, not a group").At("spec.attestation.tpm")
	}
	key, err := base64.StdEncoding.DecodeString(t.EndorsementKey)
	if err == nil && len(key) <= maxTPMPublic {
		_, err = publicArea(key)
	}
	if err != nil || len(key) > maxTPMPublic {
		return problem.New(problem.Invalid, "must be the base64 of the TPM2B_PUBLIC of the endorsement key").At("spec.attestation.tpm.endorsementKey")
	}
	e.endorsementKey = key
	return nil
}

// proveTPM checks a token that was signed inside the TPM.
func proveTPM(e Entry, claim Claim, token sastoken.Token, now time.Time) (Proof, error) {
	err := refused(nil)
	for _, window := range []int64{windowOf(now), windowOf(now) - 1} {
		if err = token.Verify(sessionKey(e.Secret, claim.RegistrationID, e.endorsementKey, window), now, skew); err == nil {
			break
		}
	}
	key := hubKey(e.Secret, claim.RegistrationID, e.endorsementKey)
	if err != nil {
		// Once it has its hub key, a device signs with that.
		if err = token.Verify(key, now, skew); err != nil {
			return Proof{}, refused(err)
		}
	}
	proof := Proof{Enrollment: e.Enrollment, Auth: link.Auth{Type: link.AuthSAS, PrimaryKey: key}}
	if claim.TPM != nil && string(claim.TPM.EndorsementKey) == string(e.endorsementKey) {
		if proof.Sealed, err = seal(*claim.TPM, key); err != nil {
			return Proof{}, refused(err)
		}
	}
	return proof, nil
}

// seal wraps a key so that only a TPM can use it: an HMAC object for its
// storage root key, under an inner key that only the endorsement key releases
// (TPM 2.0 library specification part 1, clauses 23.3 and 24). The answer is,
// in TPM wire format and in this order: the credential, its secret, the
// duplicate, no outer secret, the public area, no data.
func seal(t TPM, key []byte) ([]byte, error) {
	endorsement, err := publicArea(t.EndorsementKey)
	if err != nil {
		return nil, err
	}
	root, err := publicArea(t.StorageRootKey)
	if err != nil {
		return nil, err
	}
	encapsulation, err := tpm2.ImportEncapsulationKey(endorsement)
	if err != nil {
		return nil, err
	}
	rootName, err := tpm2.ObjectName(root)
	if err != nil {
		return nil, err
	}
	inner, seed := make([]byte, 16), make([]byte, 32)
	for _, fresh := range [][]byte{inner, seed} {
		rand.Read(fresh) // never fails: crypto/rand ends the program instead
	}
	credential, secret, err := tpm2.CreateCredential(rand.Reader, encapsulation, rootName.Buffer, inner)
	if err != nil {
		return nil, err
	}
	area := keyedHash(seed, key)
	duplicate, err := innerWrap(inner, sensitive(seed, key), area)
	if err != nil {
		return nil, err
	}
	var blob []byte
	for _, part := range [][]byte{credential, secret, duplicate, nil, area, nil} {
		blob = append(blob, sized(part)...)
	}
	return blob, nil
}

// sized is a TPM2B: two bytes of length, and the content.
func sized(content []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(content))), content...)
}

// keyedHash is the TPMT_PUBLIC of an HMAC-SHA256 key.
func keyedHash(seed, key []byte) []byte {
	unique := sha256.Sum256(append(append([]byte{}, seed...), key...))
	area := []byte{
		0x00, 0x08, // keyed hash
		0x00, 0x0b, // named by SHA-256
		0x00, 0x04, 0x00, 0x40, // sign, userWithAuth
		0x00, 0x00, // no policy
		0x00, 0x05, 0x00, 0x0b, // HMAC with SHA-256
	}
	return append(area, sized(unique[:])...)
}

// sensitive is the TPM2B_SENSITIVE of the key.
func sensitive(seed, key []byte) []byte {
	content := []byte{0x00, 0x08, 0x00, 0x00} // keyed hash, no authorisation value
	return sized(append(append(content, sized(seed)...), sized(key)...))
}

// innerWrap encrypts a sensitive area with its integrity value.
func innerWrap(key, content, area []byte) ([]byte, error) {
	name := sha256.Sum256(area)
	hash := sha256.New()
	hash.Write(content)
	hash.Write([]byte{0x00, 0x0b})
	hash.Write(name[:])
	plain := append(sized(hash.Sum(nil)), content...)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	wrapped := make([]byte, len(plain))
	//lint:ignore SA1019 the specification of TPMs asks for CFB; the integrity value is inside
	cipher.NewCFBEncrypter(block, make([]byte, aes.BlockSize)).XORKeyStream(wrapped, plain)
	return wrapped, nil
}

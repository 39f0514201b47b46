package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// The kinds of leaves.
const (
	kindEntry       = "entry"       // what somebody did
	kindConsequence = "consequence" // what else followed in the same request
	kindOutcome     = "outcome"     // what became of an entry that another plane carried out
)

// leaf is what is hashed of an entry: nothing in it says who or which device
// by itself. Those stand in the payload, of which it has commitments.
type leaf struct {
	Sequence    int64     `json:"sequence"`
	At          time.Time `json:"at"`
	Kind        string    `json:"kind"`
	Entry       int64     `json:"entry,omitempty"`
	Person      string    `json:"person,omitempty"`
	Token       string    `json:"token,omitempty"`
	Grant       string    `json:"grant,omitempty"`
	Action      string    `json:"action"`
	Subject     string    `json:"subject,omitempty"`
	Environment string    `json:"environment,omitempty"`
	Outcome     string    `json:"outcome"`
	Request     string    `json:"request,omitempty"`
	Who         []byte    `json:"who"`
	What        []byte    `json:"what"`
}

// who is the part of a payload that says who acted.
type who struct {
	Salt  []byte `json:"salt"`
	Actor string `json:"actor"`
}

// what is the part of a payload that says what was acted on, in words of
// people and with names of devices.
type what struct {
	Salt   []byte `json:"salt"`
	Object string `json:"object,omitempty"`
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// saltSize makes a commitment of little content as hard to guess as a key.
const saltSize = 32

func newSalt() []byte {
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		panic(err) // crypto/rand never fails on supported systems
	}
	return salt
}

// The first words of what is hashed: no text of one kind is one of another.
const (
	leafLabel = "slipway audit leaf 1"
	whoLabel  = "slipway audit who 1"
	whatLabel = "slipway audit what 1"
)

// text appends a text with its length, so that no two lists of texts look the
// same in a row.
func text[T string | []byte](b []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// encode is the one form of a leaf: each number in eight bytes, each text with
// its length in four before it, most significant byte first.
func (l leaf) encode(b []byte) []byte {
	b = text(b, leafLabel)
	b = binary.BigEndian.AppendUint64(b, uint64(l.Sequence))
	b = binary.BigEndian.AppendUint64(b, uint64(l.At.UnixMicro()))
	b = text(b, l.Kind)
	b = binary.BigEndian.AppendUint64(b, uint64(l.Entry))
	for _, s := range [...]string{l.Person, l.Token, l.Grant, l.Action, l.Subject, l.Environment, l.Outcome, l.Request} {
		b = text(b, s)
	}
	return text(text(b, l.Who), l.What)
}

// hash is the leaf's hash in the tree (RFC 6962).
func (l leaf) hash() tlog.Hash { return tlog.RecordHash(l.encode(nil)) }

func (w who) commitment() []byte {
	sum := sha256.Sum256(text(text(text(nil, whoLabel), w.Salt), w.Actor))
	return sum[:]
}

func (w what) commitment() []byte {
	b := text(text(nil, whatLabel), w.Salt)
	for _, s := range [...]string{w.Object, w.Reason, w.Detail, w.Before, w.After} {
		b = text(b, s)
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

// subjectOf is the kind of an object, such as "device" of "device/sensor-1".
func subjectOf(object string) string {
	kind, _, named := strings.Cut(object, "/")
	if !named {
		return ""
	}
	return kind
}

// Digest is what an entry keeps of a document before or after a change.
func Digest(document any) string {
	encoded, err := json.Marshal(document)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(encoded)
	return "sha256:" + hex.EncodeToString(sum[:])
}

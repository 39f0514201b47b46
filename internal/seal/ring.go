package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Key is one key of a ring. Its id is a digest of it and says nothing of it.
type Key struct {
	ID     string
	Made   time.Time
	secret []byte
	aead   cipher.AEAD
}

// Ring holds the keys by which a database keeps its secrets, the newest first:
// one of them seals, and all open.
type Ring []Key

// Settling is how long a key opens before it seals, where there is an older
// one: meanwhile every process that works on the database reads it.
const Settling = time.Minute

// Generate returns a key that nobody had before.
func Generate(now time.Time) Key {
	secret := make([]byte, SecretSize)
	rand.Read(secret) // never fails: crypto/rand ends the program instead
	return newKey(secret, now)
}

func newKey(secret []byte, made time.Time) Key {
	digest := sha256.Sum256(append([]byte("slipway sealing key "), secret...))
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic(err) // its size was checked
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size that GCM wants
	}
	return Key{hex.EncodeToString(digest[:4]), made.UTC().Truncate(time.Second), secret, aead}
}

// Line is the key as a ring is written down: when it was made, and itself.
func (k Key) Line() string {
	return k.Made.Format(time.RFC3339) + " " + base64.StdEncoding.EncodeToString(k.secret)
}

// maxKeys bounds a ring: rotations do not overlap that often.
const maxKeys = 16

// ParseRing reads a ring: a key a line, the newest first; lines that begin with
// # are for people.
func ParseRing(text []byte) (Ring, error) {
	var ring Ring
	for number, line := range bytes.Split(text, []byte("\n")) {
		fields := strings.Fields(string(line))
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		damaged := problem.New(problem.Invalid, "line %d of the sealing keys must be a time such as 2026-01-31T12:00:00Z and the base64 of %d bytes; `slipway keys generate` makes one", number+1, SecretSize)
		if len(fields) != 2 || len(ring) == maxKeys {
			return nil, damaged
		}
		made, err := time.Parse(time.RFC3339, fields[0])
		if err != nil {
			return nil, damaged
		}
		secret, err := base64.StdEncoding.DecodeString(fields[1])
		if err != nil || len(secret) != SecretSize {
			return nil, damaged
		}
		ring = append(ring, newKey(secret, made))
	}
	if len(ring) == 0 {
		return nil, problem.New(problem.Invalid, "there is no sealing key in it; `slipway keys generate` makes one")
	}
	return ring, nil
}

// Text is a ring as ParseRing reads it.
func (r Ring) Text() []byte {
	var b bytes.Buffer
	b.WriteString("# What secrets in the database beside this file are sealed with. Without it they cannot be read.\n# The newest key comes first.\n")
	for _, k := range r {
		fmt.Fprintln(&b, k.Line())
	}
	return b.Bytes()
}

// Sealer is the key that seals at a moment: the newest that has settled.
func (r Ring) Sealer(now time.Time) Key {
	for _, k := range r[:len(r)-1] {
		if now.Sub(k.Made) >= Settling {
			return k
		}
	}
	return r[len(r)-1]
}

// Has reports whether a key of that id is in the ring.
func (r Ring) Has(id string) bool {
	for _, k := range r {
		if k.ID == id {
			return true
		}
	}
	return false
}

// Sealed text begins with this, the id of its key, and a point.
const (
	mark = "sealed1."
	// PrefixSize is how much of a sealed text says by which key it is.
	PrefixSize = len(mark) + 8 + 1
)

// Mark is how everything sealed begins.
func Mark() string { return mark }

// Prefix is how everything begins that a key has sealed.
func (k Key) Prefix() string { return mark + k.ID + "." }

// KeyOf is the id of the key by which a text is sealed; empty where it is in
// the clear.
func KeyOf(text string) string {
	if len(text) < PrefixSize || !strings.HasPrefix(text, mark) {
		return ""
	}
	return text[len(mark) : PrefixSize-1]
}

// Seal encrypts what is known by a name, and opens under that name only.
func (k Key) Seal(name string, plain []byte) string {
	nonce := make([]byte, k.aead.NonceSize(), k.aead.NonceSize()+len(plain)+k.aead.Overhead())
	rand.Read(nonce) // never fails: crypto/rand ends the program instead
	return k.Prefix() + base64.StdEncoding.EncodeToString(k.aead.Seal(nonce, nonce, plain, []byte(name)))
}

// keyring are the keys this process was given, by id: what is sealed says by
// which of them, so whoever reads a column need not be told.
var keyring sync.Map

// Keep has the process open with the keys of a ring, too.
func (r Ring) Keep() {
	for _, k := range r {
		keyring.Store(k.ID, k)
	}
}

// Open decrypts what was sealed under a name by any key that this process was
// given. Text in the clear is returned as it is: it was written before there
// was a key.
func Open(name, text string) ([]byte, error) {
	id := KeyOf(text)
	if id == "" {
		return []byte(text), nil
	}
	found, ok := keyring.Load(id)
	if !ok {
		return nil, problem.New(problem.Conflict, "%s is sealed with the key %s, which this process does not have; put the sealing keys back that belong to the database", name, id)
	}
	key := found.(Key)
	sealed, err := base64.StdEncoding.DecodeString(text[PrefixSize:])
	if err != nil || len(sealed) < key.aead.NonceSize() {
		return nil, problem.New(problem.Conflict, "%s is damaged", name)
	}
	plain, err := key.aead.Open(nil, sealed[:key.aead.NonceSize()], sealed[key.aead.NonceSize():], []byte(name))
	if err != nil {
		return nil, problem.New(problem.Conflict, "%s is damaged, or belongs elsewhere", name)
	}
	return plain, nil
}

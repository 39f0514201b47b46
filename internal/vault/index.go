package vault

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Index is what is told of a backup in the clear: whose it is, of when, and of
// which chunks. The list of files is a file itself, encrypted like the others.
type Index struct {
	Format      int                 `json:"format"`
	ID          string              `json:"id"`
	Peer        string              `json:"peer"`
	Environment string              `json:"environment,omitempty"`
	Region      string              `json:"region,omitempty"`
	Vault       string              `json:"vault"`
	TakenAt     time.Time           `json:"takenAt"` // up to when everything acknowledged is in it
	EndedAt     time.Time           `json:"endedAt"`
	Version     string              `json:"version,omitempty"` // of the program
	Engine      string              `json:"engine"`            // sqlite, postgresql
	Schema      int64               `json:"schema"`            // number of the last migration
	Rows        map[string]int64    `json:"rows"`              // of each table
	Streams     []link.BackupStream `json:"streams,omitempty"`
	Canary      link.Canary         `json:"canary"`
	Recipients  []string            `json:"recipients"`
	Files       int                 `json:"files"`
	Bytes       int64               `json:"bytes"`  // of all files
	Stored      int64               `json:"stored"` // that this backup added to the vault
	Size        int64               `json:"size"`   // of all its chunks in the vault
	Chunks      []string            `json:"chunks"`
	Contents    []int               `json:"contents"` // the chunks of the list of files, in order
	digest      string
}

const (
	format   = 1
	preamble = "slipway-backup-1"
	// maxIndex and maxChunks bound what a reader believes.
	maxIndex  = 128 << 20
	maxChunks = 1_000_000
)

var (
	idForm    = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z\.[a-z0-9][a-z0-9.-]{0,99}$`)
	chunkForm = regexp.MustCompile(`^[0-9]{4}w[0-9]{2}/[0-9a-f]{32}-[0-9]{1,8}-[0-9a-f]{64}$`)
)

const idTime = "20060102T150405Z"

// NewID names a backup of a peer.
func NewID(at time.Time, peer string) string { return at.UTC().Format(idTime) + "." + peer }

// ParseID reads a backup's moment and peer out of its name.
func ParseID(id string) (at time.Time, peer string, err error) {
	if !idForm.MatchString(id) {
		return at, "", problem.New(problem.Invalid, "a backup is named like 20261220T180000Z.control, not %.60q", id)
	}
	moment, peer, _ := strings.Cut(id, ".")
	at, err = time.Parse(idTime, moment)
	if err != nil {
		return at, "", problem.New(problem.Invalid, "the backup %s is of no moment there is", id)
	}
	return at, peer, nil
}

// Sign makes the object of an index.
func Sign(text []byte, key ed25519.PrivateKey) []byte {
	public := key.Public().(ed25519.PublicKey)
	signature := ed25519.Sign(key, append([]byte(preamble+"\n"), text...))
	head := fmt.Sprintf("%s %s %s\n", preamble, KeyID(public), base64.StdEncoding.EncodeToString(signature))
	return append([]byte(head), text...)
}

// KeyID is the short name of a key.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// FormatKey is a public key as people hand it on.
func FormatKey(key ed25519.PublicKey) string {
	return "slipway-signer:" + base64.RawURLEncoding.EncodeToString(key)
}

// ParseKey reads what FormatKey has written.
func ParseKey(text string) (ed25519.PublicKey, error) {
	inner, ok := strings.CutPrefix(strings.TrimSpace(text), "slipway-signer:")
	key, err := base64.RawURLEncoding.DecodeString(inner)
	if !ok || err != nil || len(key) != ed25519.PublicKeySize {
		return nil, problem.New(problem.Invalid, "the signer's key begins with slipway-signer: and is what `slipway backup key` shows")
	}
	return key, nil
}

// Parse reads the object of an index that one of the signers has signed.
func Parse(object []byte, signers []ed25519.PublicKey) (Index, error) {
	head, text, found := bytes.Cut(object, []byte("\n"))
	parts := strings.Split(string(head), " ")
	if !found || len(parts) != 3 || parts[0] != preamble {
		return Index{}, damaged("it does not begin like a backup of this format")
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(signature) != ed25519.SignatureSize {
		return Index{}, damaged("its signature cannot be read")
	}
	for _, key := range signers {
		if KeyID(key) == parts[1] && ed25519.Verify(key, append([]byte(preamble+"\n"), text...), signature) {
			return ParseText(text)
		}
	}
	return Index{}, damaged("its signature is not by a known signer: it was changed, or made by somebody else")
}

func damaged(format string, args ...any) error {
	return problem.New(problem.Conflict, "the backup is damaged: "+format, args...)
}

// ParseText reads an index, believing nothing.
func ParseText(text []byte) (x Index, err error) {
	x.digest = digestOf(text)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&x); err != nil {
		return x, damaged("its index cannot be read")
	}
	if _, err := decoder.Token(); err != io.EOF {
		return x, damaged("something follows its index")
	}
	return x, x.check()
}

func (x *Index) check() error {
	_, peer, err := ParseID(x.ID)
	switch {
	case x.Format != format:
		return damaged("its format is %d, and this program reads %d", x.Format, format)
	case err != nil:
		return err
	case peer != x.Peer:
		return damaged("it is named after %s and is of %s", peer, x.Peer)
	case len(x.Chunks) > maxChunks:
		return damaged("it has %d chunks, and at most %d are read", len(x.Chunks), maxChunks)
	case len(x.Contents) == 0 || len(x.Contents) > len(x.Chunks):
		return damaged("its list of files is missing")
	case x.Bytes < 0 || x.Stored < 0 || x.Size < 0 || x.Files < 0:
		return damaged("it tells of less than nothing")
	}
	for _, name := range x.Chunks {
		if !chunkForm.MatchString(name) {
			return damaged("a chunk has no proper name")
		}
	}
	return inside(x.Contents, len(x.Chunks))
}

func inside(numbers []int, n int) error {
	for _, i := range numbers {
		if i < 0 || i >= n {
			return damaged("it speaks of a chunk it does not list")
		}
	}
	return nil
}

package vault

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"github.com/restic/chunker"

	"github.com/slipway/slipway/internal/problem"
)

// The sizes of chunks: where a file is cut depends on what is in it, so that a
// change in its middle makes new only the chunks it touches.
const (
	minChunk    = 64 << 10
	maxChunk    = 2 << 20
	averageBits = 18 // 256 KiB on average beyond the smallest
	// maxSealed is more than a chunk of random bytes has, encrypted.
	maxSealed = maxChunk + 64<<10
)

// keys name chunks and decide where files are cut. They open nothing; who has
// them can find out whether a vault has a chunk that they know.
type keys struct {
	naming     []byte
	polynomial chunker.Pol
}

// newKeys derives the keys of a peer.
func newKeys(secret []byte, peer string) (keys, error) {
	derived, err := hkdf.Key(sha256.New, secret, nil, "slipway backup of "+peer, 64)
	if err != nil {
		return keys{}, err
	}
	polynomial, err := chunker.DerivePolynomial(rand.NewChaCha8([32]byte(derived[32:])))
	return keys{derived[:32], polynomial}, err
}

// known is the beginning of a chunk's name, by which the same content is found
// again.
func (k keys) known(content []byte) string {
	return k.name("content", content)
}

// knownPart is known for a part of a file whose content never changes, so that
// it need not be read again.
func (k keys) knownPart(key string, number int) string {
	return k.name("part "+strconv.Itoa(number), []byte(key))
}

func (k keys) name(kind string, what []byte) string {
	mac := hmac.New(sha256.New, k.naming)
	fmt.Fprintf(mac, "%s\x00", kind) // a hash takes everything
	mac.Write(what)
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

var (
	compressor, _   = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(4))
	decompressor, _ = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(2*maxChunk), zstd.WithDecoderConcurrency(4))
)

// seal compresses and encrypts a chunk.
func seal(content []byte, to []age.Recipient) ([]byte, error) {
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, to...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(compressor.EncodeAll(content, nil)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return sealed.Bytes(), nil
}

// unseal is the reverse of seal, for a chunk of so many bytes.
func unseal(sealed []byte, size int, by []age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), by...)
	if err != nil {
		return nil, problem.New(problem.Denied, "the identity does not decrypt the backup: it is encrypted for another recipient, or damaged")
	}
	compressed, err := io.ReadAll(io.LimitReader(r, maxSealed+1))
	if err != nil {
		return nil, damaged("a chunk does not decrypt")
	}
	content, err := decompressor.DecodeAll(compressed, make([]byte, 0, min(size, maxChunk)))
	if err != nil || len(content) != size {
		return nil, damaged("a chunk is not what its name says")
	}
	return content, nil
}

// chunkName is how an index names a chunk: era/known-size-digest, of which the
// digest is that of the object.
func chunkName(era, known string, size int, sealed []byte) string {
	sum := sha256.Sum256(sealed)
	return era + "/" + known + "-" + strconv.Itoa(size) + "-" + hex.EncodeToString(sum[:])
}

// splitName reads a chunk's name.
func splitName(name string) (known string, size int, digest string, ok bool) {
	if !chunkForm.MatchString(name) {
		return "", 0, "", false
	}
	_, name, _ = strings.Cut(name, "/")
	parts := strings.Split(name, "-")
	size, err := strconv.Atoi(parts[1])
	return parts[0], size, parts[2], err == nil && size <= maxChunk
}

func chunkObject(peer, name string) string { return "chunks/" + peer + "/" + name }

// read fetches a chunk's object and holds it against the digest in its name.
func (v *Vault) read(ctx context.Context, peer, name string) ([]byte, error) {
	_, _, digest, ok := splitName(name)
	if !ok {
		return nil, damaged("a chunk has no proper name")
	}
	content, err := v.bucket.Get(ctx, chunkObject(peer, name), 0)
	if problem.Is(err, problem.NotFound) {
		return nil, damaged("the chunk %s is missing", name)
	}
	if err != nil {
		return nil, err
	}
	defer content.Close()
	sealed, err := io.ReadAll(io.LimitReader(content, maxSealed+1))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(sealed); hex.EncodeToString(sum[:]) != digest {
		return nil, damaged("the chunk %s was changed", name)
	}
	return sealed, nil
}

// open fetches a chunk and decrypts it.
func (v *Vault) open(ctx context.Context, peer, name string, by []age.Identity) ([]byte, error) {
	sealed, err := v.read(ctx, peer, name)
	if err != nil {
		return nil, err
	}
	_, size, _, _ := splitName(name)
	return unseal(sealed, size, by)
}

package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"

	"github.com/slipway/slipway/internal/blob"
	"github.com/slipway/slipway/internal/link"
)

// CopyDamaged copies a backup into a vault of its own, in a directory, with one
// bit flipped in one of its objects.
func (v *Vault) CopyDamaged(ctx context.Context, x Index, dir string) (*Vault, error) {
	to := blob.Dir(dir)
	names := []string{backupObject(x.ID)}
	for _, chunk := range x.Chunks {
		names = append(names, chunkObject(x.Peer, chunk))
	}
	harmed := rand.IntN(len(names))
	for i, name := range names {
		object, err := v.fetch(ctx, name)
		if err != nil {
			return nil, err
		}
		if i == harmed && len(object) > 0 {
			object[rand.IntN(len(object))] ^= 1 << rand.IntN(8)
		}
		if err := to.Put(ctx, name, int64(len(object)), bytes.NewReader(object)); err != nil {
			return nil, err
		}
	}
	return &Vault{link.Vault{Name: v.spec.Name, Directory: dir}, to}, nil
}

// Digest is the hex SHA-256 of what was signed of a backup.
func (x Index) Digest() string { return x.digest }

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

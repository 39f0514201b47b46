package vault

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Hand leaves an index, which is not signed yet, for whoever signs it, and
// returns its digest.
func (v *Vault) Hand(ctx context.Context, x Index) (digest string, err error) {
	text, err := json.Marshal(x)
	if err != nil {
		return "", err
	}
	return digestOf(text), v.bucket.Put(ctx, "pending/"+x.ID, int64(len(text)), bytes.NewReader(text))
}

// Publish makes a backup of what Hand has left: it holds it against the digest
// that its plane told, looks that every chunk is there, and signs.
func (v *Vault) Publish(ctx context.Context, id, digest string, key ed25519.PrivateKey, now time.Time) (Index, error) {
	text, err := v.fetch(ctx, "pending/"+id)
	if err != nil {
		return Index{}, err
	}
	if digestOf(text) != digest {
		return Index{}, damaged("its index is not the one that its plane has written")
	}
	x, err := ParseText(text)
	if err != nil {
		return x, err
	}
	if x.ID != id {
		return x, damaged("its index is of %s", x.ID)
	}
	if err := v.complete(ctx, x); err != nil {
		return x, err
	}
	object := Sign(text, key)
	err = v.bucket.Create(ctx, backupObject(id), int64(len(object)), bytes.NewReader(object), v.lockUntil(now, 0))
	if err != nil && !problem.Is(err, problem.Conflict) {
		return x, err
	}
	return x, v.bucket.Remove(ctx, "pending/"+id)
}

func backupObject(id string) string { return "backups/" + id }

func (v *Vault) fetch(ctx context.Context, name string) ([]byte, error) {
	content, err := v.bucket.Get(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	text, err := io.ReadAll(io.LimitReader(content, maxIndex+1))
	if err == nil && len(text) > maxIndex {
		err = damaged("its index has more than %d bytes", maxIndex)
	}
	return text, err
}

// complete looks that every chunk of a backup is there, without reading them.
func (v *Vault) complete(ctx context.Context, x Index) error {
	there := map[string]map[string]bool{}
	for _, name := range x.Chunks {
		era, base, _ := strings.Cut(name, "/")
		if there[era] == nil {
			all, err := v.bucket.List(ctx, chunkObject(x.Peer, era)+"/")
			if err != nil {
				return err
			}
			there[era] = map[string]bool{}
			for _, object := range all {
				there[era][path.Base(object.Name)] = true
			}
		}
		if !there[era][base] {
			return damaged("the chunk %s is missing; is the directory of vault %s the same on every machine?", name, v.Name())
		}
	}
	return nil
}

// List names the backups in the vault, oldest first; those of other names are
// not ours.
func (v *Vault) List(ctx context.Context) ([]string, error) {
	all, err := v.bucket.List(ctx, "backups/")
	var ids []string
	for _, object := range all {
		if id := path.Base(object.Name); idForm.MatchString(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, err
}

// Find reads the index of a backup, by one of the signers.
func (v *Vault) Find(ctx context.Context, id string, signers []ed25519.PublicKey) (Index, error) {
	if _, _, err := ParseID(id); err != nil {
		return Index{}, err
	}
	object, err := v.fetch(ctx, backupObject(id))
	if problem.Is(err, problem.NotFound) {
		return Index{}, problem.New(problem.NotFound, "there is no backup %s in vault %s", id, v.Name())
	}
	if err != nil {
		return Index{}, err
	}
	x, err := Parse(object, signers)
	if err == nil && x.ID != id {
		err = damaged("it is kept as %s and is %s", id, x.ID)
	}
	return x, err
}

// Verify reads every chunk of a backup and holds it against its digest. It
// decrypts nothing.
func (v *Vault) Verify(ctx context.Context, x Index, progress func(chunks int)) error {
	for i, name := range x.Chunks {
		if _, err := v.read(ctx, x.Peer, name); err != nil {
			return err
		}
		if progress != nil {
			progress(i + 1)
		}
	}
	return nil
}

// Remove takes backups away. Their chunks stay until Sweep.
func (v *Vault) Remove(ctx context.Context, ids []string, now time.Time) (removed []string, err error) {
	for _, id := range ids {
		at, _, err := ParseID(id)
		if err != nil {
			return removed, err
		}
		if v.locked(at, now) {
			continue
		}
		if err := v.bucket.Remove(ctx, backupObject(id)); err != nil {
			return removed, err
		}
		removed = append(removed, id)
	}
	return removed, nil
}

// locked reports whether what was written at a time may not be removed yet.
func (v *Vault) locked(at, now time.Time) bool {
	return v.spec.LockDays > 0 && now.Before(at.Add(time.Duration(v.spec.LockDays)*24*time.Hour))
}

// Sweep removes the chunks of a peer that none of its backups uses. Nobody may
// be writing one. An index that cannot be read stops it: what that index uses
// is not known.
func (v *Vault) Sweep(ctx context.Context, peer string, signers []ed25519.PublicKey, now time.Time) (removed int, bytes int64, err error) {
	ids, err := v.List(ctx)
	if err != nil {
		return 0, 0, err
	}
	used, eras := map[string]bool{}, map[string]bool{eraOf(now): true, eraOf(now.Add(-era)): true}
	for _, id := range ids {
		at, of, err := ParseID(id)
		if err != nil || of != peer {
			continue
		}
		for back := range 3 {
			eras[eraOf(at.Add(-time.Duration(back)*era))] = true
		}
		x, err := v.Find(ctx, id, signers)
		if err != nil {
			return 0, 0, err
		}
		for _, name := range x.Chunks {
			used[name] = true
		}
	}
	for e := range v.oldEras(now) {
		eras[e] = true
	}
	for e := range eras {
		n, size, err := v.sweepEra(ctx, peer, e, used, now)
		removed, bytes = removed+n, bytes+size
		if err != nil {
			return removed, bytes, err
		}
	}
	return removed, bytes, nil
}

// oldEras are those in which something may be left that no backup tells of any
// more: a year and what is locked beyond that.
func (v *Vault) oldEras(now time.Time) map[string]bool {
	all := map[string]bool{}
	for back := range 55 + v.spec.LockDays/7 {
		all[eraOf(now.Add(-time.Duration(back)*era))] = true
	}
	return all
}

func (v *Vault) sweepEra(ctx context.Context, peer, e string, used map[string]bool, now time.Time) (removed int, bytes int64, err error) {
	all, err := v.bucket.List(ctx, chunkObject(peer, e)+"/")
	if err != nil {
		return 0, 0, err
	}
	for _, object := range all {
		if used[e+"/"+path.Base(object.Name)] || v.eraLocked(e, now) {
			continue
		}
		if err := v.bucket.Remove(ctx, object.Name); err != nil {
			return removed, bytes, err
		}
		removed, bytes = removed+1, bytes+object.Size
	}
	return removed, bytes, nil
}

// eraLocked reports whether chunks of an era may not be removed yet.
func (v *Vault) eraLocked(e string, now time.Time) bool {
	if v.spec.LockDays == 0 {
		return false
	}
	for back := range 2 + v.spec.LockDays/7 {
		if eraOf(now.Add(-time.Duration(back)*era)) == e {
			return true
		}
	}
	return false
}

// Note keeps a small document in the vault for good, such as the evidence of a
// drill.
func (v *Vault) Note(ctx context.Context, name string, document []byte, now time.Time) error {
	err := v.bucket.Create(ctx, name, int64(len(document)), bytes.NewReader(document), v.lockUntil(now, 0))
	if problem.Is(err, problem.Conflict) {
		return nil
	}
	return err
}

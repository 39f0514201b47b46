package vault

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"
)

// maxFiles bounds the list of files that a reader believes.
const maxFiles = 2_000_000

// Restoring says how a backup comes back.
type Restoring struct {
	Identities []age.Identity
	// Place says where the file of a path goes; empty leaves it out.
	Place    func(path string) string
	Progress func(bytes int64) // may be nil
}

// Restore writes the files of a backup. Each is held against its digest, and
// none replaces one that is there; who calls sees to it that what a failure
// leaves is not taken for the whole.
func (v *Vault) Restore(ctx context.Context, x Index, how Restoring) (bytes int64, err error) {
	lines := json.NewDecoder(bufio.NewReader(&chunks{ctx: ctx, vault: v, index: &x, left: x.Contents, by: how.Identities}))
	lines.DisallowUnknownFields()
	files := 0
	for {
		var e entry
		err := lines.Decode(&e)
		if err == io.EOF {
			break
		}
		if err != nil {
			return bytes, orDamaged(err, "its list of files cannot be read")
		}
		if files++; files > min(maxFiles, x.Files) {
			return bytes, damaged("it lists more files than it has")
		}
		if err := v.restoreFile(ctx, &x, e, how); err != nil {
			return bytes, err
		}
		if bytes += e.Size; how.Progress != nil {
			how.Progress(bytes)
		}
	}
	if files != x.Files || bytes != x.Bytes {
		return bytes, damaged("it has %d files of %d bytes, and lists %d of %d", x.Files, x.Bytes, files, bytes)
	}
	return bytes, nil
}

func (v *Vault) restoreFile(ctx context.Context, x *Index, e entry, how Restoring) (err error) {
	if err := checkPath(e.Path); err != nil {
		return err
	}
	if err := inside(e.Chunks, len(x.Chunks)); err != nil {
		return err
	}
	to := how.Place(e.Path)
	if to == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	digest := sha256.New()
	n, err := io.Copy(io.MultiWriter(file, digest), io.LimitReader(&chunks{ctx: ctx, vault: v, index: x, left: e.Chunks, by: how.Identities}, e.Size+1))
	switch {
	case err != nil:
		return err
	case n != e.Size || e.SHA256 != "" && hex.EncodeToString(digest.Sum(nil)) != e.SHA256:
		return damaged("the file %s is not what it was", e.Path)
	}
	return file.Sync()
}

// orDamaged keeps what a reader said of itself.
func orDamaged(err error, what string) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &kind) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("%s", what)
	}
	return err
}

// chunks reads chunks one after the other.
type chunks struct {
	ctx   context.Context
	vault *Vault
	index *Index
	left  []int
	by    []age.Identity
	now   []byte
}

// Read implements io.Reader.
func (c *chunks) Read(p []byte) (int, error) {
	for len(c.now) == 0 {
		if len(c.left) == 0 {
			return 0, io.EOF
		}
		next, err := c.vault.open(c.ctx, c.index.Peer, c.index.Chunks[c.left[0]], c.by)
		if err != nil {
			return 0, err
		}
		c.now, c.left = next, c.left[1:]
	}
	n := copy(p, c.now)
	c.now = c.now[n:]
	return n, nil
}

package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"path"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"
	"github.com/restic/chunker"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/slipway/slipway/internal/problem"
)

// Item is a file that goes into a backup.
type Item struct {
	Path string
	Size int64 // of one with a Key
	// Key names the content of a file that never changes, so that what is in the
	// vault already is not even read; empty for others.
	Key  string
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// entry is a line of the list of files.
type entry struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"` // of all of it, where all of it was read
	Chunks []int  `json:"chunks"`
}

// Writing says how a backup is written.
type Writing struct {
	Secret     []byte // that names chunks
	Recipients []age.Recipient
	Rate       int64 // bytes a second into the vault; 0 is no limit
	Anew       bool  // use no chunk that is there: one of them is damaged
	Now        func() time.Time
	Progress   func(bytes int64) // is told how far it has come; may be nil
}

// writers is how many chunks are on their way at once, which bounds memory.
const writers = 4

// writer writes one backup.
type writer struct {
	Writing
	vault  *Vault
	index  Index
	era    string
	keys   keys
	pace   *rate.Limiter
	listed map[string]string // chunks of this era that are in the vault, by the beginning of their names
	sizes  map[string]int64  // and their sizes there
	own    map[string]int    // chunks of this backup: their numbers
	group  *errgroup.Group
	mu     sync.Mutex // of what the group fills in
	stored atomic.Int64
	done   atomic.Int64
}

// Write writes a backup's chunks and completes its index, as text to be signed.
// Until Publish there is no backup; what was written is used by the next.
func (v *Vault) Write(ctx context.Context, how Writing, x Index, items func(func(Item) error) error) (Index, error) {
	w := &writer{Writing: how, vault: v, index: x, era: eraOf(how.Now()), listed: map[string]string{}, sizes: map[string]int64{}, own: map[string]int{}}
	if how.Rate > 0 {
		w.pace = rate.NewLimiter(rate.Limit(how.Rate), maxSealed)
	}
	var err error
	if w.keys, err = newKeys(how.Secret, x.Peer); err != nil {
		return x, err
	}
	if !how.Anew {
		if err := w.look(ctx); err != nil {
			return x, err
		}
	}
	var putting context.Context
	w.group, putting = errgroup.WithContext(ctx)
	w.group.SetLimit(writers)
	err = w.write(putting, items)
	if putErr := w.group.Wait(); putErr != nil {
		err = putErr
	}
	if err != nil {
		return x, err
	}
	w.index.Format, w.index.Vault, w.index.Stored, w.index.EndedAt = format, v.Name(), w.stored.Load(), how.Now().UTC()
	for _, name := range w.index.Chunks {
		w.index.Size += w.sizes[name]
	}
	return w.index, w.index.check()
}

// look learns which chunks of this era are there.
func (w *writer) look(ctx context.Context) error {
	all, err := w.vault.bucket.List(ctx, "chunks/"+w.index.Peer+"/"+w.era+"/")
	for _, object := range all {
		name := w.era + "/" + path.Base(object.Name)
		if known, _, _, ok := splitName(name); ok {
			w.listed[known], w.sizes[name] = name, object.Size
		}
	}
	return err
}

// write cuts all files into chunks, and then the list of them.
func (w *writer) write(ctx context.Context, items func(func(Item) error) error) error {
	var list bytes.Buffer
	lines := json.NewEncoder(&list)
	err := items(func(item Item) error {
		one, err := w.item(ctx, item)
		if err != nil {
			return err
		}
		w.index.Files++
		w.index.Bytes += one.Size
		return lines.Encode(one)
	})
	if err != nil {
		return err
	}
	contents, err := w.cut(ctx, &list)
	w.index.Contents = contents.Chunks
	return err
}

func (w *writer) item(ctx context.Context, item Item) (e entry, err error) {
	if err := checkPath(item.Path); err != nil {
		return e, err
	}
	if item.Key != "" {
		e, err = w.fixed(ctx, item)
	} else {
		e, err = w.read(ctx, item)
	}
	e.Path = item.Path
	return e, err
}

func (w *writer) read(ctx context.Context, item Item) (e entry, err error) {
	content, err := item.Open(ctx)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	return w.cut(ctx, content)
}

// cut makes chunks of a file where its content says so.
func (w *writer) cut(ctx context.Context, content io.Reader) (e entry, err error) {
	whole, e := sha256.New(), entry{Chunks: []int{}}
	cutter := chunker.NewWithBoundaries(io.TeeReader(content, whole), w.keys.polynomial, minChunk, maxChunk)
	cutter.SetAverageBits(averageBits)
	for {
		chunk, err := cutter.Next(make([]byte, 0, 2*minChunk))
		if err == io.EOF {
			e.SHA256 = hex.EncodeToString(whole.Sum(nil))
			return e, nil
		}
		if err != nil {
			return e, err
		}
		e.Size += int64(chunk.Length)
		e.Chunks = append(e.Chunks, w.chunk(ctx, w.keys.known(chunk.Data), func() ([]byte, error) { return chunk.Data, nil }))
		if err := w.advance(ctx, int64(chunk.Length)); err != nil {
			return e, err
		}
	}
}

// fixed makes chunks of a file that never changes: of those that are there
// nothing is read.
func (w *writer) fixed(ctx context.Context, item Item) (e entry, err error) {
	parts := int((item.Size + maxChunk - 1) / maxChunk)
	e = entry{Size: item.Size, Chunks: []int{}}
	var names []string
	missing := false
	for i := range parts {
		names = append(names, w.keys.knownPart(item.Key, i))
		_, size, _, _ := splitName(w.listed[names[i]])
		if int64(size) != min(maxChunk, item.Size-int64(i)*maxChunk) {
			delete(w.listed, names[i])
			missing = true
		}
	}
	var content io.ReadCloser
	if missing {
		if content, err = item.Open(ctx); err != nil {
			return e, err
		}
		defer func() { err = errors.Join(err, content.Close()) }()
	}
	for i, known := range names {
		part := make([]byte, min(maxChunk, item.Size-int64(i)*maxChunk))
		if missing {
			if _, err := io.ReadFull(content, part); err != nil {
				return e, problem.New(problem.Conflict, "%s became shorter while it was read: %w", item.Path, err)
			}
		}
		e.Chunks = append(e.Chunks, w.chunk(ctx, known, func() ([]byte, error) { return part, nil }))
		if err := w.advance(ctx, int64(len(part))); err != nil {
			return e, err
		}
	}
	return e, nil
}

func (w *writer) advance(ctx context.Context, n int64) error {
	if sum := w.done.Add(n); w.Progress != nil {
		w.Progress(sum)
	}
	return ctx.Err()
}

// chunk gives a chunk its number in the index, and has it put into the vault
// unless it is there.
func (w *writer) chunk(ctx context.Context, known string, content func() ([]byte, error)) int {
	w.mu.Lock()
	number, mine := w.own[known]
	if mine {
		w.mu.Unlock()
		return number
	}
	number = len(w.index.Chunks)
	name, there := w.listed[known]
	w.own[known], w.index.Chunks = number, append(w.index.Chunks, name)
	w.mu.Unlock()
	if !there {
		w.group.Go(func() error { return w.put(ctx, number, known, content) })
	}
	return number
}

// put encrypts a chunk and brings it into the vault.
func (w *writer) put(ctx context.Context, number int, known string, content func() ([]byte, error)) error {
	text, err := content()
	if err != nil {
		return err
	}
	sealed, err := seal(text, w.Recipients)
	if err != nil {
		return err
	}
	if w.pace != nil {
		if err := w.pace.WaitN(ctx, len(sealed)); err != nil {
			return err
		}
	}
	name := chunkName(w.era, known, len(text), sealed)
	err = w.vault.bucket.Create(ctx, chunkObject(w.index.Peer, name), int64(len(sealed)), bytes.NewReader(sealed), w.vault.lockUntil(w.Now(), era))
	if err != nil && !problem.Is(err, problem.Conflict) {
		return err
	}
	w.stored.Add(int64(len(sealed)))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index.Chunks[number], w.sizes[name] = name, int64(len(sealed))
	return nil
}

var pathForm = regexp.MustCompile(`^(plane|root)(/[A-Za-z0-9._@-]+)+$`)

// checkPath lets only paths into a backup, and out of one, that lead to a file
// within a directory, whatever is done with them.
func checkPath(p string) error {
	if len(p) > 1000 || !pathForm.MatchString(p) || path.Clean(p) != p || strings.Contains(p, "..") {
		return damaged("a file of it has the path %.80q, which is not one of a backup", p)
	}
	return nil
}

package software

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// metadata is signed metadata as control gave it last. What has a version in
// its name never changes; the rest is asked for anew after a while. While
// control is away, what is here is as good as any: whoever reads it sees by
// its signature and its date what it is worth.
type metadata struct {
	dir     string
	control Control
	now     func() time.Time

	mu    sync.Mutex
	tried map[string]*attempt // by name
}

// attempt is the last question to control about a file.
type attempt struct {
	at      time.Time
	err     error
	running chan struct{} // closed when it has ended
}

const (
	freshFor    = 5 * time.Second // how long an answer of control is not asked for again
	metadataAsk = 3 * time.Second // how long control may take for a part
	maxMetadata = 4 << 20
	maxTried    = 10_000
)

var (
	metadataName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}$`)
	versioned    = regexp.MustCompile(`^[0-9]+\.`)
)

func openMetadata(dir string, control Control, now func() time.Time) (*metadata, error) {
	return &metadata{dir: dir, control: control, now: now, tried: map[string]*attempt{}}, os.MkdirAll(dir, 0o700)
}

// read returns a file of metadata.
func (m *metadata) read(ctx context.Context, name string) ([]byte, error) {
	if !metadataName.MatchString(name) {
		return nil, problem.New(problem.Invalid, "metadata has a name of 1 to 80 letters, digits and ._-").At("file")
	}
	kept, err := os.ReadFile(filepath.Join(m.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	here := err == nil
	if here && versioned.MatchString(name) {
		return kept, nil
	}
	a, mine := m.begin(name)
	switch {
	case mine:
		fresh, err := m.ask(ctx, name)
		m.end(name, a, err)
		if err == nil {
			return fresh, nil
		}
	case here:
		return kept, nil // somebody asks, or has just done so
	default:
		select {
		case <-a.running:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if a.err == nil {
			return os.ReadFile(filepath.Join(m.dir, name))
		}
	}
	if here && !problem.Is(a.err, problem.NotFound) {
		return kept, nil
	}
	return nil, a.err
}

// begin says whether it is time to ask control about a file, which the caller
// then does, and returns the last attempt otherwise.
func (m *metadata) begin(name string) (a *attempt, mine bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if a := m.tried[name]; a != nil && (a.at.IsZero() || now.Sub(a.at) < freshFor) {
		return a, false
	}
	if len(m.tried) >= maxTried {
		for name, a := range m.tried {
			if !a.at.IsZero() && now.Sub(a.at) >= freshFor {
				delete(m.tried, name)
			}
		}
	}
	a = &attempt{running: make(chan struct{})}
	if len(m.tried) < maxTried {
		m.tried[name] = a
	}
	return a, true
}

func (m *metadata) end(name string, a *attempt, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a.at, a.err = m.now(), err
	close(a.running)
}

// ask reads a file from control and keeps it. One asks for all who wait, so
// whoever leaves does not take it along.
func (m *metadata) ask(ctx context.Context, name string) ([]byte, error) {
	ctx = context.WithoutCancel(ctx)
	var all bytes.Buffer
	for {
		part, err := m.part(ctx, name, int64(all.Len()))
		if err != nil {
			return nil, err
		}
		if part.Size > maxMetadata || int64(all.Len()+len(part.Data)) > part.Size {
			return nil, problem.New(problem.TooLarge, "metadata has at most %d bytes, not the %d of %s", maxMetadata, part.Size, name)
		}
		all.Write(part.Data) // a buffer takes everything
		if int64(all.Len()) == part.Size {
			break
		}
		if len(part.Data) == 0 {
			return nil, problem.New(problem.NotReady, "control has not all of %s just now; try again", name)
		}
	}
	return all.Bytes(), m.keep(name, all.Bytes())
}

func (m *metadata) part(ctx context.Context, name string, offset int64) (link.Part, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataAsk)
	defer cancel()
	return m.control.Metadata(ctx, link.ReadPart{Name: name, Offset: offset})
}

// keep writes a file so that it is there as a whole or not at all.
func (m *metadata) keep(name string, content []byte) error {
	file, err := os.CreateTemp(m.dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(m.dir, name))
	}
	if err != nil {
		err = errors.Join(err, os.Remove(file.Name()))
	}
	return err
}

package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

func open(t *testing.T, dir string, most int64) *Journal {
	t.Helper()
	j, err := Open(t.Context(), Options{
		Dir: dir, Bytes: most, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		Stamps: func(context.Context) ([]resource.Stamp, error) {
			return []resource.Stamp{{Metadata: resource.Metadata{Name: "test-1"}, Spec: resource.StampSpec{Environment: "test"}}}, nil
		},
		Tenant: func(_ context.Context, id string) (string, error) {
			if owner, _, found := strings.Cut(id, "-"); found {
				return owner, nil
			}
			return "", errors.New("nobody knows")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir, 200_000)
	for n := range 20 {
		var lines []link.Line
		for i := range 100 {
			lines = append(lines, link.Line{At: time.Now(), Level: "info", Message: fmt.Sprintf("line %d of %d %s", i, n, strings.Repeat("x", 300))})
		}
		if err := j.Take(t.Context(), "stamp.test-1", link.Trail{Lines: lines, Lost: 1}); err != nil {
			t.Fatal(err)
		}
	}
	newest, err := j.Search(t.Context(), Filter{Limit: 1})
	if err != nil || len(newest) != 1 || !strings.HasPrefix(newest[0].Message, "line 99 of 19") || newest[0].Environment != "test" {
		t.Fatal(newest, err)
	}
	if kept := j.bytes.Load(); kept > 200_000 || j.lost.Load() != 20 {
		t.Errorf("%d bytes are kept, %d lost", kept, j.lost.Load())
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir, 200_000)
	defer func() {
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}()
	if again.bytes.Load() != j.bytes.Load() {
		t.Errorf("%d bytes after a start, %d before", again.bytes.Load(), j.bytes.Load())
	}
	if err := again.Take(t.Context(), "", link.Trail{Lines: make([]link.Line, maxTaken+1)}); err == nil {
		t.Error("so many lines at once were taken")
	}
	again.Age = -time.Hour
	if err := again.tidy(t.Context()); err != nil || again.bytes.Load() != 0 {
		t.Error(err, again.bytes.Load())
	}
}

func TestFollowersMissNothing(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir(), 0)
	defer func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}()
	say := func(text, device string) {
		if err := j.Take(t.Context(), "stamp.test-1", link.Trail{Lines: []link.Line{{At: time.Now(), Level: "info", Message: text, Device: device}}}); err != nil {
			t.Fatal(err)
		}
	}
	say("before", "a-1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := make(chan string, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- j.Follow(ctx, Filter{Tenant: "a", Limit: 5}, func(e Entry) error { got <- e.Message; return nil })
	}()
	if first := <-got; first != "before" {
		t.Fatal(first)
	}
	say("another's", "b-1")
	say("nobody's", "c")
	say("mine", "a-2")
	if next := <-got; next != "mine" {
		t.Fatal(next)
	}
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestTracesAreToldInOrder(t *testing.T) {
	t.Parallel()
	at := func(n int) time.Time { return time.UnixMicro(int64(n)) }
	spans := []link.Span{{ID: "a", Parent: "away", Name: "a", Began: at(1)}, {ID: "b", Parent: "a", Name: "b", Began: at(2)}, {ID: "d", Name: "d", Began: at(3)}, {ID: "c", Parent: "b", Name: "c", Began: at(4)}, {ID: "x", Parent: "y"}, {ID: "y", Parent: "x"}, {ID: "z", Parent: "z", Name: "z", Began: at(5)}}
	var got []string
	for _, s := range steps(spans) {
		got = append(got, fmt.Sprint(s.Depth, s.Name))
	}
	if want := "[0a 1b 2c 0d 0z]"; fmt.Sprint(got) != want {
		t.Errorf("%v, not %s", got, want)
	}
	if sqldb.Micros(at(7)) != 7 {
		t.Error("microseconds")
	}
}

package transfer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/migrations"
)

// rig is a runner with storage and a registry that the test looks into.
type rig struct {
	*Runner
	mu       sync.Mutex
	files    map[string]string
	applied  []string
	onImport func(line string) error
	storage  *httptest.Server
}

func newRig(t *testing.T) *rig {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	r := &rig{files: map[string]string{}}
	r.storage = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.storage.Close)
	r.Runner = New(Options{DB: db, Dir: t.TempDir(), Client: r.storage.Client(), Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	return r
}

func (r *rig) serve(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := strings.TrimPrefix(req.URL.Path, "/box/")
	if req.Method == http.MethodPut {
		body, _ := io.ReadAll(req.Body)
		r.files[name] = string(body)
		return
	}
	text, ok := r.files[name]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
	}
	io.WriteString(w, text)
}

func (r *rig) ImportLine(_ context.Context, line []byte, _ string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied = append(r.applied, string(line))
	if r.onImport != nil {
		return string(line), r.onImport(string(line))
	}
	return string(line), nil
}

func (r *rig) ExportLines(_ context.Context, after string, _ bool) ([][]byte, string, error) {
	if after == "" {
		return [][]byte{[]byte("a"), []byte("b")}, "b", nil
	}
	return nil, "", nil
}

func (r *rig) address() string { return r.storage.URL + "/box?sig=secret" }

func (r *rig) create(t *testing.T, kind Type) string {
	t.Helper()
	made, err := r.Create(t.Context(), Spec{Type: kind, Input: r.address(), Output: r.address()}, "somebody")
	if err != nil {
		t.Fatal(err)
	}
	return made.ID
}

func (r *rig) get(t *testing.T, id string) Transfer {
	t.Helper()
	got, err := r.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func lines(n int) string {
	var text []string
	for i := range n {
		text = append(text, strconv.Itoa(i))
	}
	return strings.Join(text, "\n")
}

func TestAnImportGoesOnWhereItWas(t *testing.T) {
	r := newRig(t)
	r.files[devicesFile] = lines(5*checkpoint + 50)
	id := r.create(t, Import)
	ctx, kill := context.WithCancel(t.Context())
	r.onImport = func(line string) error {
		if line == strconv.Itoa(3*checkpoint+7) {
			kill()
		}
		if line == "5" || line == strconv.Itoa(5*checkpoint) {
			return problem.New(problem.Conflict, "no room")
		}
		return nil
	}
	if err := r.next(ctx, r); err != nil {
		t.Fatal(err)
	}
	if got := r.get(t, id); got.Status != Running || got.Lines != 3*checkpoint || got.Refused != 1 {
		t.Fatalf("after the end of the process: %+v", got)
	}
	r.mu.Lock()
	r.applied, r.files[devicesFile] = nil, "another file meanwhile"
	r.mu.Unlock()
	if err := r.next(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	got := r.get(t, id)
	if got.Status != Completed || got.Lines != 5*checkpoint+50 || got.Refused != 2 || len(r.applied) != 2*checkpoint+50 || r.applied[0] != strconv.Itoa(3*checkpoint) {
		t.Errorf("%+v, %d lines applied", got, len(r.applied))
	}
	if log := r.files[errorsFile]; strings.Count(log, "no room") != 2 || !strings.Contains(log, `"line":6`) {
		t.Errorf("the log says %s", log)
	}
}

func TestACancelledImportStops(t *testing.T) {
	r := newRig(t)
	r.files[devicesFile] = lines(10 * checkpoint)
	id := r.create(t, Import)
	r.onImport = func(line string) error {
		if line == "3" {
			_, err := r.Cancel(context.Background(), id)
			return err
		}
		return nil
	}
	if err := r.next(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := r.get(t, id); got.Status != Cancelled || len(r.applied) != checkpoint {
		t.Errorf("%+v after %d lines", got, len(r.applied))
	}
}

func TestWhatEndsATransfer(t *testing.T) {
	r := newRig(t)
	missing := r.create(t, Import)
	if err := r.next(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	r.files[devicesFile] = "1\n" + strings.Repeat("x", maxLine+1)
	long, export := r.create(t, Import), r.create(t, Export)
	if err := r.next(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	r.storage.Close()
	gone := r.create(t, Export)
	if err := r.next(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{missing: "404", long: "line 2", gone: "not reached", export: ""} {
		got := r.get(t, id)
		if got.Failure == "" != (want == "") || !strings.Contains(got.Failure, want) || strings.Contains(got.Failure+got.Input+got.Output, "secret") {
			t.Errorf("%+v, want %q", got, want)
		}
	}
	if r.files[devicesFile] != "a\nb\n" || !slices.Equal(r.applied, []string{"1"}) {
		t.Errorf("exported %q, imported %q", r.files[devicesFile], r.applied)
	}
	left, _, err := sqldb.Row(t.Context(), r.db, scanInt, "SELECT count(*) FROM transfer WHERE input LIKE '%secret%' OR output LIKE '%secret%'")
	if err != nil || left != 0 {
		t.Errorf("%d tokens are kept, %v", left, err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	r := newRig(t)
	good := "https://storage.example/box?sig=1"
	for name, s := range map[string]Spec{
		"type": {Type: "copy", Output: good}, "inputBlobContainerUri": {Type: Import, Output: good}, "outputBlobContainerUri": {Type: Export, Output: "http://storage.example/box"},
		"storageAuthenticationType": {Type: Export, Output: good, StorageAuth: "identityBased"},
	} {
		if _, err := r.Create(t.Context(), s, "somebody"); !problem.Is(err, problem.Invalid) || problem.Of(err).Field != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	var err error
	for range maxWaiting + 1 {
		_, err = r.Create(t.Context(), Spec{Type: Export, Output: good}, "somebody")
	}
	if !problem.Is(err, problem.Busy) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := r.Cancel(t.Context(), "nothing"); !problem.Is(err, problem.NotFound) || errors.Is(err, errCancelled) {
		t.Errorf("cancelling nothing: %v", err)
	}
}

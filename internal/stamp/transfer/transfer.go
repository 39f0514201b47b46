// Package transfer moves a whole registry: an import applies a file of
// identities, one JSON object per line, and an export writes one. The files lie
// in a container of blob storage that the back end names with the address and
// the token of its own. Transfers run one after another, in the background, and
// go on where they were when their process ended.
package transfer

import (
	"context"
	"crypto/rand"
	"database/sql"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Type says which way a transfer goes, spelled as back ends do.
type Type string

// The types.
const (
	Import Type = "import"
	Export Type = "export"
)

// Status is where a transfer stands, spelled as back ends read it.
type Status string

// The statuses.
const (
	Enqueued  Status = "enqueued"
	Running   Status = "running"
	Completed Status = "completed"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
)

// The limits of transfers.
const (
	maxWaiting  = 10
	maxAddress  = 4096
	maxLine     = 1 << 20
	maxFile     = 5000 << 20 // what storage takes in one request
	maxRefusals = 10_000     // written to the log; all are counted
	maxList     = 100
	keepEnded   = 30 * 24 * time.Hour
)

// Spec is a transfer as back ends ask for it.
type Spec struct {
	Type        Type   `json:"type"`
	Input       string `json:"inputBlobContainerUri"`
	Output      string `json:"outputBlobContainerUri"`
	ExcludeKeys bool   `json:"excludeKeysInExport"`
	StorageAuth string `json:"storageAuthenticationType"`
}

// Transfer is a stored transfer.
type Transfer struct {
	Spec
	ID        string
	Status    Status
	Actor     string
	CreatedAt time.Time
	EndAt     *time.Time
	Lines     int64
	Refused   int64
	Failure   string
}

// check refuses what cannot be done.
func (s Spec) check() error {
	if s.Type != Import && s.Type != Export {
		return problem.New(problem.Invalid, "a job is of type import or export, not %q", s.Type).At("type")
	}
	if s.StorageAuth != "" && !strings.EqualFold(s.StorageAuth, "keyBased") {
		return problem.New(problem.Invalid, "this hub has no identity of its own at a storage service; put a shared access signature into the container's address").At("storageAuthenticationType")
	}
	if s.Type == Import {
		if err := checkAddress("inputBlobContainerUri", s.Input); err != nil {
			return err
		}
	}
	return checkAddress("outputBlobContainerUri", s.Output)
}

func checkAddress(field, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || len(text) > maxAddress {
		return problem.New(problem.Invalid, "the address of a container reads https://host/container?token and has at most %d bytes", maxAddress).At(field)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "https" || u.Scheme == "http" && ip != nil && ip.IsLoopback() {
		return nil
	}
	return problem.New(problem.Invalid, "a container is reached by https").At(field)
}

// withoutToken is an address as it may be shown.
func withoutToken(address string) string {
	plain, _, _ := strings.Cut(address, "?")
	return plain
}

// Runner keeps the transfers of one stamp and runs them.
type Runner struct {
	db     *sqldb.DB
	dir    string
	client *http.Client
	logger *slog.Logger
	now    func() time.Time
	kick   chan struct{}
}

// Options are what transfers need.
type Options struct {
	DB     *sqldb.DB
	Dir    string       // for files on their way
	Client *http.Client // reaches storage
	Logger *slog.Logger
	Now    func() time.Time
}

// New returns a runner.
func New(o Options) *Runner {
	return &Runner{db: o.DB, dir: o.Dir, client: o.Client, logger: o.Logger, now: o.Now, kick: make(chan struct{}, 1)}
}

// The addresses of a transfer hold tokens until it has ended, so they are sealed.
var (
	keptInput  = sqldb.Sealed{Table: "transfer", Key: []string{"id"}, Name: "input"}
	keptOutput = sqldb.Sealed{Table: "transfer", Key: []string{"id"}, Name: "output"}
	// Sealed are the columns that hold secrets.
	Sealed = []sqldb.Sealed{keptInput, keptOutput}
)

const selectTransfer = "SELECT id, type, status, input, output, exclude_keys, actor, created_at, end_at, lines, refused, failure FROM transfer"

func scanTransfer(rows *sql.Rows) (t Transfer, err error) {
	var created int64
	var end sql.NullInt64
	err = rows.Scan(&t.ID, &t.Type, &t.Status, keptInput.Into(&t.Input, &t.ID), keptOutput.Into(&t.Output, &t.ID), &t.ExcludeKeys, &t.Actor, &created, &end, &t.Lines, &t.Refused, &t.Failure)
	t.CreatedAt, t.EndAt = sqldb.Time(created), sqldb.NullTime(end)
	return t, err
}

func scanInt(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }

// shown is a transfer without the tokens of its addresses.
func (t Transfer) shown() Transfer {
	t.Input, t.Output = withoutToken(t.Input), withoutToken(t.Output)
	return t
}

// Create stores a transfer that begins when those before it have ended.
func (r *Runner) Create(ctx context.Context, s Spec, actor string) (Transfer, error) {
	if err := s.check(); err != nil {
		return Transfer{}, err
	}
	t := Transfer{Spec: s, ID: rand.Text(), Status: Enqueued, Actor: actor, CreatedAt: r.now()}
	excluded := 0
	if s.ExcludeKeys {
		excluded = 1
	}
	err := r.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		waiting, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM transfer WHERE status IN ('enqueued', 'running')")
		if err != nil {
			return err
		}
		if waiting >= maxWaiting {
			return problem.New(problem.Busy, "%d imports and exports wait or run already, the most there may be", waiting).After(time.Minute)
		}
		_, err = tx.Exec(ctx, `INSERT INTO transfer (id, type, status, input, output, exclude_keys, actor, created_at, lines, refused, failure)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, '')`, t.ID, string(s.Type), string(t.Status), tx.Seal(keptInput, []byte(s.Input), t.ID), tx.Seal(keptOutput, []byte(s.Output), t.ID), excluded, actor, sqldb.Micros(t.CreatedAt))
		return err
	})
	if err != nil {
		return Transfer{}, err
	}
	select {
	case r.kick <- struct{}{}:
	default:
	}
	return t.shown(), nil
}

// Get returns one transfer.
func (r *Runner) Get(ctx context.Context, id string) (Transfer, error) {
	t, found, err := sqldb.Row(ctx, r.db, scanTransfer, selectTransfer+" WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no job %q", id)
	}
	return t.shown(), err
}

// List returns the newest transfers.
func (r *Runner) List(ctx context.Context) ([]Transfer, error) {
	all, err := sqldb.Rows(ctx, r.db, scanTransfer, selectTransfer+" ORDER BY created_at DESC, id LIMIT ?", maxList)
	for i, t := range all {
		all[i] = t.shown()
	}
	return all, err
}

// Cancel ends a transfer: lines not yet applied are left alone. Cancelling one
// that has ended changes nothing.
func (r *Runner) Cancel(ctx context.Context, id string) (Transfer, error) {
	if _, err := r.Get(ctx, id); err != nil {
		return Transfer{}, err
	}
	if err := r.end(ctx, id, Cancelled, ""); err != nil {
		return Transfer{}, err
	}
	return r.Get(ctx, id)
}

// end writes a transfer's end down, once, and forgets its tokens.
func (r *Runner) end(ctx context.Context, id string, status Status, failure string) error {
	return r.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		t, found, err := sqldb.Row(ctx, tx, scanTransfer, selectTransfer+" WHERE id = ? AND end_at IS NULL", id)
		if err != nil || !found {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE transfer SET status = ?, failure = ?, end_at = ?, input = ?, output = ? WHERE id = ?",
			string(status), failure, sqldb.Micros(r.now()), tx.Seal(keptInput, []byte(withoutToken(t.Input)), id), tx.Seal(keptOutput, []byte(withoutToken(t.Output)), id), id)
		return err
	})
}

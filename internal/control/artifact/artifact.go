// Package artifact keeps the files that releases are made of. They come over
// the API in parts, and go to stamps in parts, on which devices fetch them.
package artifact

import (
	"context"
	"database/sql"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/slipway/slipway/internal/blob"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// The states of an artifact.
const (
	Arriving = "arriving" // some of it is missing
	Here     = "here"     // all of it is here, and is what it is named by
	Leaving  = "leaving"  // it is being removed
)

// File is what is known of a file.
type File struct {
	SHA256    string    `json:"sha256"`
	File      string    `json:"file" doc:"The name it was sent with"`
	Size      int64     `json:"size" doc:"In bytes"`
	Received  int64     `json:"received" doc:"How much has arrived; what is missing goes on there"`
	State     string    `json:"state" enum:"arriving,here,leaving"`
	SHA1      string    `json:"sha1,omitempty"`
	MD5       string    `json:"md5,omitempty"`
	Releases  int       `json:"releases" doc:"How many releases name it"`
	CreatedAt time.Time `json:"createdAt"`
	CreatedBy string    `json:"createdBy"`
	UsedAt    time.Time `json:"usedAt" doc:"When a part of it came, or a release named it"`
}

// Limits bound what is kept.
type Limits struct {
	File  int64 // bytes of one file; default 4 GiB
	Total int64 // bytes of all together; default 64 GiB
}

// The parts of a file. All but the last have at least MinPart bytes, so that a
// file has a bounded number of them.
const (
	MinPart = 256 << 10
	MaxPart = 8 << 20
)

// keepUnused is how long a file stays that no release names, and abandoned one
// that does not arrive any further.
const (
	keepUnused = 24 * time.Hour
	abandoned  = 7 * 24 * time.Hour
)

// Artifacts are the files of an installation.
type Artifacts struct {
	db     *sqldb.DB
	files  *blob.Store
	limits Limits
	audit  *audit.Log
	now    func() time.Time
}

// New returns the artifacts whose records are in db and whose content is in files.
func New(db *sqldb.DB, files *blob.Store, limits Limits, log *audit.Log, now func() time.Time) *Artifacts {
	if limits.File == 0 {
		limits.File = 4 << 30
	}
	if limits.Total == 0 {
		limits.Total = 64 << 30
	}
	return &Artifacts{db, files, limits, log, now}
}

const (
	columns     = "sha256, file, size, sha1, md5, state, created_at, created_by, used_at, (SELECT count(*) FROM release_artifact r WHERE r.sha256 = artifact.sha256)"
	selectFiles = "SELECT " + columns + " FROM artifact"
)

func scan(rows *sql.Rows) (f File, err error) {
	var created, used int64
	err = rows.Scan(&f.SHA256, &f.File, &f.Size, &f.SHA1, &f.MD5, &f.State, &created, &f.CreatedBy, &used, &f.Releases)
	f.CreatedAt, f.UsedAt = sqldb.Time(created), sqldb.Time(used)
	if f.State == Here {
		f.Received = f.Size
	}
	return f, err
}

var digest = regexp.MustCompile(`^[0-9a-f]{64}$`)

func find(ctx context.Context, q sqldb.Querier, sha256 string) (f File, found bool, err error) {
	if !digest.MatchString(sha256) {
		return f, false, problem.New(problem.Invalid, "an artifact is named by its SHA-256, 64 of 0-9 and a-f, not by %q", sha256).At("sha256")
	}
	return sqldb.Row(ctx, q, scan, selectFiles+" WHERE sha256 = ?", sha256)
}

func absent(sha256 string) error {
	return problem.New(problem.NotFound, "there is no artifact %s; `slipway artifact put` sends it", sha256)
}

// Get tells what is known of a file, and how much of it has arrived.
func (a *Artifacts) Get(ctx context.Context, sha256 string) (File, error) {
	f, found, err := find(ctx, a.db, sha256)
	if err == nil && !found {
		err = absent(sha256)
	}
	if err == nil && f.State == Arriving {
		f.Received, err = a.files.Received(ctx, sha256)
	}
	return f, err
}

// List returns a page of the files, in order of digest.
func (a *Artifacts) List(ctx context.Context, after string, limit int) ([]File, error) {
	return sqldb.Rows(ctx, a.db, scan, selectFiles+" WHERE sha256 > ? ORDER BY sha256 LIMIT ?", after, limit)
}

// Part is a part of a file on its way here.
type Part struct {
	SHA256 string // of the whole file
	File   string
	Offset int64
	Length int64 // of the part; none finishes a file of which all has arrived
	Size   int64 // of the whole file
}

// Write takes a part of a file and tells how far it is. The last part finishes
// the file: either it is here then, or its content was not what it was
// announced as, and nothing of it is kept.
func (a *Artifacts) Write(ctx context.Context, actor access.Actor, p Part, content io.Reader) (File, error) {
	if err := a.check(p); err != nil {
		return File{}, err
	}
	f, err := a.expect(ctx, actor, p)
	if err != nil || f.State == Here {
		return f, err
	}
	if f.Received, err = a.files.Received(ctx, p.SHA256); err != nil {
		return f, err
	}
	switch {
	case p.Offset+p.Length <= f.Received: // it came before
	case p.Offset != f.Received:
		return f, problem.New(problem.Conflict, "%d bytes have arrived; go on there, not at %d", f.Received, p.Offset).At("Content-Range")
	default:
		if err := a.files.WritePart(ctx, p.SHA256, p.Offset, p.Length, content); err != nil {
			return f, err
		}
		f.Received += p.Length
	}
	if f.Received < f.Size {
		return f, nil
	}
	return a.finish(ctx, actor, f)
}

func (a *Artifacts) check(p Part) error {
	switch {
	case p.Size < 1:
		return problem.New(problem.Invalid, "an artifact has at least one byte").At("Content-Range")
	case p.Size > a.limits.File:
		return problem.New(problem.TooLarge, "an artifact has at most %d bytes, not %d", a.limits.File, p.Size).At("Content-Range")
	case p.Offset < 0 || p.Length < 0 || p.Offset+p.Length > p.Size || p.Length == 0 && p.Offset != p.Size:
		return problem.New(problem.Invalid, "the part is not within the file").At("Content-Range")
	case p.Length > MaxPart:
		return problem.New(problem.TooLarge, "a part has at most %d bytes, not %d", MaxPart, p.Length).At("Content-Range")
	case p.Length < MinPart && p.Offset+p.Length < p.Size:
		return problem.New(problem.Invalid, "a part has at least %d bytes, unless it is the last", MinPart).At("Content-Range")
	case !digest.MatchString(p.SHA256):
		return problem.New(problem.Invalid, "an artifact is named by its SHA-256, 64 of 0-9 and a-f, not by %q", p.SHA256).At("sha256")
	case !printable(p.File):
		return problem.New(problem.Invalid, "a file's name has 1 to 200 printable characters and no slash").At("file")
	}
	return nil
}

func printable(name string) bool {
	return name != "" && len(name) <= 200 && utf8.ValidString(name) && !strings.ContainsAny(name, `/\`) && strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// expect notes that a file is arriving, if there is room for it.
func (a *Artifacts) expect(ctx context.Context, actor access.Actor, p Part) (f File, err error) {
	err = a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var found bool
		if f, found, err = find(ctx, tx, p.SHA256); err != nil {
			return err
		}
		now := a.now().UTC().Truncate(time.Microsecond)
		switch {
		case found && f.State == Here:
			return nil
		case found && f.State == Leaving:
			return problem.New(problem.NotReady, "artifact %s is being removed; try again", p.SHA256)
		case found && f.Size != p.Size:
			return problem.New(problem.Conflict, "artifact %s was announced with %d bytes, not %d", p.SHA256, f.Size, p.Size).At("Content-Range")
		case found:
			_, err := tx.Exec(ctx, "UPDATE artifact SET used_at = ? WHERE sha256 = ?", sqldb.Micros(now), p.SHA256)
			return err
		}
		used, _, err := sqldb.Row(ctx, tx, scanNumber, "SELECT CAST(coalesce(sum(size), 0) AS BIGINT) FROM artifact")
		if err != nil {
			return err
		}
		if used+p.Size > a.limits.Total {
			return problem.New(problem.TooLarge, "artifacts may take %d bytes, of which %d are taken; `slipway artifact prune` removes what no release names", a.limits.Total, used)
		}
		f = File{SHA256: p.SHA256, File: p.File, Size: p.Size, State: Arriving, CreatedAt: now, CreatedBy: actor.Name, UsedAt: now}
		if _, err := tx.Exec(ctx, "INSERT INTO artifact (sha256, file, size, sha1, md5, state, created_at, created_by, used_at) VALUES (?, ?, ?, '', '', ?, ?, ?, ?)",
			f.SHA256, f.File, f.Size, f.State, sqldb.Micros(now), f.CreatedBy, sqldb.Micros(now)); err != nil {
			return err
		}
		return a.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "artifact.put", Object: "artifact/" + f.SHA256, Outcome: audit.Asked, Detail: f.File})
	})
	return f, err
}

func scanNumber(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }

// finish makes a file of its parts.
func (a *Artifacts) finish(ctx context.Context, actor access.Actor, f File) (File, error) {
	digests, err := a.files.Finish(ctx, f.SHA256, f.Size)
	if problem.Is(err, problem.Invalid) {
		return f, a.refuse(ctx, actor, f, err)
	}
	if err != nil {
		return f, err
	}
	err = a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE artifact SET state = ?, sha1 = ?, md5 = ? WHERE sha256 = ? AND state = ?", Here, digests.SHA1, digests.MD5, f.SHA256, Arriving)
		if err != nil || n == 0 {
			return err // another sender finished it
		}
		return a.audit.Conclude(ctx, tx, audit.Entry{Actor: actor.Name, Action: "artifact.put", Object: "artifact/" + f.SHA256, Outcome: audit.Done, After: "sha256:" + f.SHA256})
	})
	if err != nil {
		return f, err
	}
	if err := a.files.Discard(ctx, f.SHA256); err != nil {
		return f, err
	}
	return a.Get(ctx, f.SHA256)
}

// refuse drops a file whose content is not what it was announced as.
func (a *Artifacts) refuse(ctx context.Context, actor access.Actor, f File, reason error) error {
	if err := a.files.Discard(ctx, f.SHA256); err != nil {
		return err
	}
	err := a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM artifact WHERE sha256 = ? AND state = ?", f.SHA256, Arriving); err != nil {
			return err
		}
		return a.audit.Conclude(ctx, tx, audit.Entry{Actor: actor.Name, Action: "artifact.put", Object: "artifact/" + f.SHA256, Outcome: audit.Failed, Detail: problem.Of(reason).Message})
	})
	if err != nil {
		return err
	}
	return reason
}

// whole finds a file of which all is here.
func (a *Artifacts) whole(ctx context.Context, q sqldb.Querier, sha256 string) (File, error) {
	f, found, err := find(ctx, q, sha256)
	switch {
	case err != nil:
		return f, err
	case !found || f.State == Leaving:
		return f, absent(sha256)
	case f.State != Here:
		return f, problem.New(problem.NotReady, "artifact %s has not arrived whole", sha256)
	}
	return f, nil
}

// Open reads a file that is here.
func (a *Artifacts) Open(ctx context.Context, sha256 string) (*Content, error) {
	f, err := a.whole(ctx, a.db, sha256)
	if err != nil {
		return nil, err
	}
	return &Content{About: f, ctx: ctx, files: a.files}, nil
}

// Read answers a stamp that asks for a part of a file.
func (a *Artifacts) Read(ctx context.Context, req link.ReadPart) (link.Part, error) {
	content, err := a.Open(ctx, req.Name)
	if err != nil {
		return link.Part{}, err
	}
	if req.Offset < 0 || req.Offset > content.About.Size {
		return link.Part{}, problem.New(problem.Invalid, "artifact %s ends at %d, before %d", req.Name, content.About.Size, req.Offset).At("offset")
	}
	if _, err := content.Seek(req.Offset, io.SeekStart); err != nil {
		return link.Part{}, err
	}
	part := link.Part{Size: content.About.Size, Data: make([]byte, min(link.MaxPart, content.About.Size-req.Offset))}
	_, err = io.ReadFull(content, part.Data)
	if closeErr := content.Close(); err == nil {
		err = closeErr
	}
	return part, err
}

// Use notes that a release names files, all of which must be here, and returns
// what is known of them. It is part of the release's own change.
func (a *Artifacts) Use(ctx context.Context, tx *sqldb.Tx, sha256 string) (File, error) {
	f, err := a.whole(ctx, tx, sha256)
	if err != nil {
		return f, err
	}
	_, err = tx.Exec(ctx, "UPDATE artifact SET used_at = ? WHERE sha256 = ?", sqldb.Micros(a.now()), sha256)
	return f, err
}

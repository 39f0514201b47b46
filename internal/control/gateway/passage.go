package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// passKey is where a request on its way keeps its pass.
type passKey struct{}

// pass is what becomes of one check: the grant that it went by, if it did, and
// who records what is done.
type pass struct {
	grant   *grant.Grant
	device  string   // that it is about, if it is about one
	request *passage // nil for a line of a shell, which its session records
}

// Device is the device that what is checked is about; empty is none, or
// several.
func Device(ctx context.Context) string {
	if p := passOf(ctx); p != nil {
		return p.device
	}
	return ""
}

func passOf(ctx context.Context) *pass {
	p, _ := ctx.Value(passKey{}).(*pass)
	return p
}

// deviceOf is the device that a path of the API or the console names.
func deviceOf(r *http.Request) string {
	rest, found := strings.CutPrefix(strings.TrimPrefix(r.URL.EscapedPath(), "/api/v1"), "/devices/")
	if !found {
		return ""
	}
	segment, _, _ := strings.Cut(rest, "/")
	id, err := url.PathUnescape(segment)
	if err != nil {
		return ""
	}
	owner, _ := link.SplitIdentity(id)
	return owner
}

func withPass(ctx context.Context, p *pass) context.Context {
	return context.WithValue(ctx, passKey{}, p)
}

// Pass lets something be done that only a grant allows. A request is recorded
// first, and is cut when the grant is over. What comes by no way that is
// recorded does not pass.
func (g *Gateway) Pass(ctx context.Context, actor access.Actor, given grant.Grant) error {
	p := passOf(ctx)
	if p == nil {
		return problem.New(problem.Denied, "what %s may do under grant %s goes through the API or the console, where it is recorded", actor.Name, given.ID)
	}
	if p.request != nil {
		if err := p.request.pass(ctx, actor, given); err != nil {
			return err
		}
	}
	p.grant = &given
	audit.Under(ctx, given.Environment, given.ID)
	return nil
}

// Passes reports whether what is asked once more was let pass by a grant, and
// so is recorded.
func Passes(ctx context.Context) bool {
	p := passOf(ctx)
	return p != nil && p.grant != nil
}

// Wrap has requests to a handler recorded, and cut, if only a grant allows
// them. Others are none of its business.
func (g *Gateway) Wrap(way string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cut := context.WithCancelCause(r.Context())
		defer cut(nil)
		p := &passage{g: g, way: way, cut: cut, body: &tee{from: r.Body}, answer: &answer{ResponseWriter: w}}
		r = r.WithContext(withPass(ctx, &pass{device: deviceOf(r), request: p}))
		r.Body = p.body
		p.r = r
		defer p.end()
		next.ServeHTTP(p.answer, r)
	})
}

// passage is one request on its way.
type passage struct {
	g      *Gateway
	way    string
	r      *http.Request
	cut    context.CancelCauseFunc
	body   *tee
	answer *answer

	mu       sync.Mutex
	asker    context.Context   // knows which request it is
	sessions map[string]string // that record it, by grant
	letGo    []context.CancelFunc
}

// pass records a request before anything of it is done, and has it end when
// the grant does.
func (p *passage) pass(ctx context.Context, actor access.Actor, given grant.Grant) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessions[given.ID] != "" {
		return nil
	}
	text, err := p.asked()
	if err != nil {
		return err
	}
	id, err := p.g.record(ctx, p.way, actor, given, text)
	if err != nil {
		return err
	}
	if p.sessions == nil {
		p.sessions, p.answer.sum = map[string]string{}, sha256.New()
	}
	p.sessions[given.ID], p.asker = id, ctx
	p.g.enter(id)
	held, letGo := p.g.o.Grants.Hold(p.r.Context(), given.ID)
	p.letGo = append(p.letGo, letGo)
	context.AfterFunc(held, func() {
		if over := grant.Over(held); over != nil {
			p.cut(over)
		}
	})
	return nil
}

// kept is how much of a body is recorded.
const kept = 64 << 10

// asked is the request as it is recorded.
func (p *passage) asked() (string, error) {
	text := p.r.Method + " " + p.r.URL.EscapedPath()
	if p.r.URL.RawQuery != "" {
		text += "?" + maskForm(p.r.URL.RawQuery)
	}
	begun, more, err := p.body.peek()
	if err != nil {
		return "", problem.New(problem.Invalid, "the request could not be read: %w", err)
	}
	if len(begun) == 0 {
		return text, nil
	}
	kind, _, _ := mime.ParseMediaType(p.r.Header.Get("Content-Type"))
	switch {
	case kind == "application/x-www-form-urlencoded":
		text += "\n" + maskForm(string(begun))
	case more || !bytes.ContainsAny(begun[:1], "{[\"tfn0123456789-<"):
		text += fmt.Sprintf("\n(%s, its first %d bytes have sha256 %s)", kind, len(begun), digestOf(begun))
	default:
		text += "\n" + mask(string(begun))
	}
	return text, nil
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// end records what came back.
func (p *passage) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, letGo := range p.letGo {
		letGo()
	}
	for _, id := range p.sessions {
		err := p.g.write(p.asker, id, Out, p.answer.told(context.Cause(p.asker)))
		p.g.leave(id)
		if err != nil {
			p.g.o.Logger.Error("an answer was not recorded", "session", id, "error", err)
		}
	}
}

// record writes a request into the session of its grant and way, which it opens
// if there is none, or if that is full.
func (g *Gateway) record(ctx context.Context, way string, actor access.Actor, given grant.Grant, text string) (id string, err error) {
	err = g.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		s, found, err := sqldb.Row(ctx, tx, scanSession, selectSessions+" WHERE open = 1 AND grant_id = ? AND way = ?", given.ID, way)
		if err == nil && found && (s.Lines >= maxLines-1 || s.Bytes >= maxBytes) {
			found, err = false, g.seal(ctx, tx, s.ID, grant.Robot, "its record is full; it goes on in the next")
		}
		if err != nil {
			return err
		}
		if !found {
			s = Session{Environment: given.Environment, Person: given.Person, Name: actor.Name, Way: way, Grant: given.ID, Until: given.Until, Reason: given.Reason}
			if err := g.begin(ctx, tx, &s); err != nil {
				return err
			}
		}
		id = s.ID
		return g.append(ctx, tx, id, In, text)
	})
	g.bell.Ring()
	return id, err
}

// tee is a request's body, of which the beginning is kept, and can be looked at
// before it is read.
type tee struct {
	from  io.ReadCloser
	begun []byte // the first bytes that came, one more than are recorded at most
	read  int    // of begun
	ended bool
}

// peek returns the beginning of the body, whoever has read how much of it, and
// whether there is more.
func (t *tee) peek() (begun []byte, more bool, err error) {
	if t.from == nil {
		return nil, false, nil
	}
	if room := kept + 1 - len(t.begun); room > 0 && !t.ended {
		rest, err := io.ReadAll(io.LimitReader(t.from, int64(room)))
		if err != nil {
			return nil, false, err
		}
		t.begun = append(t.begun, rest...)
	}
	return t.begun[:min(len(t.begun), kept)], len(t.begun) > kept, nil
}

// Read returns what was looked at, and then the rest.
func (t *tee) Read(p []byte) (int, error) {
	if t.read < len(t.begun) {
		n := copy(p, t.begun[t.read:])
		t.read += n
		return n, nil
	}
	n, err := t.from.Read(p)
	part := p[:min(n, kept+1-len(t.begun))]
	t.begun = append(t.begun, part...)
	t.read = len(t.begun)
	t.ended = t.ended || err != nil
	return n, err
}

// Close closes the body.
func (t *tee) Close() error { return t.from.Close() }

// answer notes what comes back, once it has a sum to add to.
type answer struct {
	http.ResponseWriter
	status int
	size   int64
	begun  bytes.Buffer
	sum    hash.Hash
}

// WriteHeader notes the status on its way.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write notes the beginning of the body on its way.
func (a *answer) Write(text []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.sum != nil {
		a.sum.Write(text)
		a.size += int64(len(text))
		a.begun.Write(text[:min(len(text), max(0, kept-a.begun.Len()))])
	}
	return a.ResponseWriter.Write(text)
}

// Unwrap lets http.ResponseController reach what is underneath.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// told is the answer as it is recorded. Pages are for eyes: of them it keeps
// what they are known by.
func (a *answer) told(cause error) string {
	text := fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	if a.size > 0 {
		kind, _, _ := mime.ParseMediaType(a.Header().Get("Content-Type"))
		switch {
		case a.size > kept || !strings.Contains(kind, "json") && kind != "text/plain":
			text += fmt.Sprintf("\n(%s, %d bytes, sha256 %s)", kind, a.size, hex.EncodeToString(a.sum.Sum(nil)))
		default:
			text += "\n" + mask(a.begun.String())
		}
	}
	if problem.Is(cause, problem.Denied) {
		text += "\ncut: " + problem.Of(cause).Message
	}
	return text
}

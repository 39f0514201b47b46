package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// The permissions that commands of a shell need, and reading of records.
const (
	reading  = "device.read"
	changing = "device.write"
	auditing = "audit.read"
	deciding = "grant.approve"
)

// shellMethod is the direct method by which a device offers a shell of its
// own: it takes {"command": "…"} and answers {"output": "…", "exitCode": 0}.
const shellMethod = "shell"

// Opening is how somebody wants a shell.
type Opening struct {
	Environment string
	Stamp       string // whose data is asked; default every stamp of the environment
	Device      string // what commands are about; may be chosen later
	Reason      string
}

// Open opens a shell. Nothing can be done in it before its record has begun.
func (g *Gateway) Open(ctx context.Context, actor access.Actor, o Opening) (s Session, err error) {
	if len(o.Reason) > maxReason {
		return s, problem.New(problem.Invalid, "say why in at most %d characters", maxReason).At("reason")
	}
	if err := g.o.Environment(ctx, o.Environment); err != nil {
		return s, err
	}
	if o.Stamp != "" {
		in, err := g.o.Stamp(ctx, o.Stamp)
		if err != nil {
			return s, err
		}
		if in != o.Environment {
			return s, problem.New(problem.Invalid, "stamp %s is of %s, not of %s", o.Stamp, in, o.Environment).At("stamp")
		}
	}
	s = Session{Environment: o.Environment, Person: personOf(actor), Name: actor.Name, Token: actor.TokenID, Way: Shell, Stamp: o.Stamp, Device: o.Device, Reason: o.Reason}
	at, err := g.place(ctx, s, o.Device)
	if err != nil {
		return s, err
	}
	needs := reading
	if o.Device != "" {
		needs = changing // a shell on a device is there to do something
	}
	use := &pass{device: o.Device}
	if err := g.o.Check(withPass(ctx, use), actor, needs, at); err != nil {
		return s, err
	}
	if given := use.grant; given != nil {
		s.Grant, s.Until = given.ID, given.Until
	}
	err = g.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return g.begin(ctx, tx, &s) })
	return s, err
}

// place is where a session's commands on a device do something. A device of
// another environment is not for this session.
func (g *Gateway) place(ctx context.Context, s Session, device string) (Place, error) {
	at := Place{Environment: s.Environment, Stamp: s.Stamp}
	if device == "" {
		return at, nil
	}
	d, err := g.o.Fleet.Show(ctx, device)
	if err != nil {
		return at, err
	}
	if d.Environment != s.Environment {
		return at, problem.New(problem.Denied, "device %s is in %s; this session is for %s alone", device, d.Environment, s.Environment)
	}
	return Place{s.Environment, d.Stamp, d.Tenant, device}, nil
}

// Reply is what a command came to.
type Reply struct {
	Output  string  `json:"output"`
	Failed  bool    `json:"failed,omitempty" doc:"The output says why"`
	Session Session `json:"session" doc:"As it is after the command"`
}

// Type runs one line in a shell: recorded, checked, done, and its answer
// recorded before anybody sees it.
func (g *Gateway) Type(ctx context.Context, actor access.Actor, id, text string) (Reply, error) {
	s, err := g.mine(ctx, actor, id)
	if err != nil {
		return Reply{}, err
	}
	text = strings.TrimSpace(text)
	if text == "" || len(text) > maxCommand {
		return Reply{}, problem.New(problem.Invalid, "a line has 1 to %d bytes", maxCommand).At("line")
	}
	g.enter(id)
	defer g.leave(id)
	if err := g.write(ctx, id, In, text); err != nil {
		if problem.Of(err) == errFull {
			err = firstOf(g.close(ctx, id, actor.Name, "its record is full"), err)
		}
		return Reply{}, err
	}
	output, failure := g.run(ctx, actor, &s, text)
	a := Reply{Output: output}
	if failure != nil {
		a.Output, a.Failed = problem.Of(failure).Error(), true
		if problem.Is(failure, problem.Internal) {
			g.o.Logger.Error("a command of a session failed", "session", id, "error", failure)
		}
	}
	if err := g.write(ctx, id, Out, a.Output); err != nil {
		return Reply{}, err
	}
	if err := g.finish(ctx, actor, s, text, failure); err != nil {
		return Reply{}, err
	}
	a.Session, err = session(ctx, g.o.DB, id)
	return a, err
}

// finish stores which device the session is about now, and closes it if that
// was asked.
func (g *Gateway) finish(ctx context.Context, actor access.Actor, s Session, text string, failure error) error {
	switch command, _ := cut(text); {
	case command == "exit":
		return g.close(ctx, s.ID, actor.Name, "closed by "+actor.Name)
	case command == "device" && failure == nil:
		return g.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			now, err := session(ctx, tx, s.ID)
			if err != nil || now.ClosedAt != nil {
				return err
			}
			now.Device = s.Device
			text, err := json.Marshal(now)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, "UPDATE recording SET document = ? WHERE id = ?", string(text), s.ID)
			return err
		})
	}
	return nil
}

// mine returns an open shell, if it is the actor's and not over.
func (g *Gateway) mine(ctx context.Context, actor access.Actor, id string) (Session, error) {
	s, err := session(ctx, g.o.DB, id)
	if err != nil {
		return s, err
	}
	switch {
	case s.Way != Shell || s.Person != personOf(actor):
		return s, problem.New(problem.Denied, "session %s is not a shell of %s", id, actor.Name)
	case s.ClosedAt != nil:
		return s, problem.New(problem.Conflict, "session %s is closed: %s", id, s.Outcome)
	}
	over, err := g.over(ctx, s)
	if err == nil && over != "" {
		err = firstOf(g.close(ctx, id, grant.Robot, over), problem.New(problem.Denied, "session %s is closed: %s", id, over))
	}
	return s, err
}

// command is one that a shell knows.
type command struct {
	name, takes, does string
	needs             string // the permission; empty needs none
	device            bool   // it is about a device
	run               func(g *Gateway, ctx context.Context, actor access.Actor, s *Session, rest string) (string, error)
}

// commands are all that a shell knows.
func commands() []command {
	return []command{
		{"device", "ID", "choose the device that what follows is about", reading, false, (*Gateway).choose},
		{"method", "NAME [JSON]", "run a direct method of the device", changing, true, (*Gateway).method},
		{"shell", "COMMAND…", "run a command in the device's own shell, if it offers one", changing, true, (*Gateway).deviceShell},
		{"twin", "[JSON]", "show the device's twin, or merge into its tags and desired properties", reading, true, (*Gateway).twin},
		{"send", "TEXT", "queue a cloud-to-device message", changing, true, (*Gateway).send},
		{"query", "TEXT", "run a query on the twins of the session's stamp, or of every stamp", reading, false, (*Gateway).query},
		{"help", "", "show this", "", false, nil},
		{"exit", "", "close the session", "", false, nil},
	}
}

// help lists the commands.
func help() string {
	var b strings.Builder
	for _, c := range commands() {
		fmt.Fprintf(&b, "%-20s %s\n", c.name+" "+c.takes, c.does)
	}
	return strings.TrimRight(b.String(), "\n")
}

// cut is the first word of a line, and the rest.
func cut(line string) (word, rest string) {
	word, rest, _ = strings.Cut(strings.TrimSpace(line), " ")
	return word, strings.TrimSpace(rest)
}

// run does what a line says, while the session's grant lasts.
func (g *Gateway) run(ctx context.Context, actor access.Actor, s *Session, text string) (string, error) {
	word, rest := cut(text)
	for _, c := range commands() {
		switch {
		case c.name != word:
			continue
		case c.name == "help":
			return help(), nil
		case c.run == nil:
			return "", nil
		case c.device && s.Device == "":
			return "", problem.New(problem.Invalid, "%s is about a device; choose one first: device ID", word)
		}
		needs := c.needs
		if word == "twin" && rest != "" {
			needs = changing
		}
		device := s.Device
		switch word {
		case "device":
			device = rest
		case "query":
			device = "" // it is about many
		}
		return g.held(ctx, *s, func(ctx context.Context) (string, error) {
			if err := g.allowed(ctx, actor, *s, needs, device); err != nil {
				return "", err
			}
			return c.run(g, ctx, actor, s, rest)
		})
	}
	return "", problem.New(problem.Invalid, "there is no command %q; help shows those there are", word)
}

// allowed checks a permission where a command is to do something.
func (g *Gateway) allowed(ctx context.Context, actor access.Actor, s Session, needs, device string) error {
	at, err := g.place(ctx, s, device)
	if err != nil {
		return err
	}
	ctx = withPass(ctx, &pass{device: device})
	if err := g.o.Check(ctx, actor, needs, at); err != nil {
		return err
	}
	access.Keep(ctx, func(again context.Context, actor access.Actor) error {
		return g.o.Check(withPass(again, passOf(ctx)), actor, needs, at)
	})
	return nil
}

// held runs something that ends when the session's grant does.
func (g *Gateway) held(ctx context.Context, s Session, do func(context.Context) (string, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lineWait)
	defer cancel()
	if s.Grant != "" {
		held, letGo := g.o.Grants.Hold(ctx, s.Grant)
		defer letGo()
		ctx = held
	}
	output, err := do(ctx)
	if err != nil {
		err = cmp.Or(access.Cut(ctx), grant.Over(ctx), err)
	}
	return output, err
}

func (g *Gateway) choose(_ context.Context, _ access.Actor, s *Session, rest string) (string, error) {
	if rest == "" {
		return "", problem.New(problem.Invalid, "name the device: device ID")
	}
	s.Device = rest
	return "device " + rest, nil
}

func (g *Gateway) method(ctx context.Context, actor access.Actor, s *Session, rest string) (string, error) {
	name, payload := cut(rest)
	if name == "" {
		return "", problem.New(problem.Invalid, "name the method: method NAME [JSON]")
	}
	if payload != "" && !json.Valid([]byte(payload)) {
		return "", problem.New(problem.Invalid, "what a method is given is JSON, unlike %q", payload)
	}
	result, err := g.o.Fleet.InvokeMethod(ctx, actor, link.InvokeMethod{DeviceID: s.Device, Method: name, Payload: json.RawMessage(payload)})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("status %d\n%s", result.Status, indented(result.Payload)), nil
}

// shellWait is how long a device's own shell may take for a command.
const shellWait = 60 * time.Second

func (g *Gateway) deviceShell(ctx context.Context, actor access.Actor, s *Session, rest string) (string, error) {
	if rest == "" {
		return "", problem.New(problem.Invalid, "say what to run: shell COMMAND…")
	}
	payload, err := json.Marshal(map[string]string{"command": rest})
	if err != nil {
		return "", err
	}
	result, err := g.o.Fleet.InvokeMethod(ctx, actor, link.InvokeMethod{DeviceID: s.Device, Method: shellMethod, Payload: payload, ResponseTimeout: shellWait})
	if err != nil {
		return "", err
	}
	var said struct {
		Output   *string `json:"output"`
		ExitCode int     `json:"exitCode"`
	}
	if result.Status != 200 || json.Unmarshal(result.Payload, &said) != nil || said.Output == nil {
		return "", problem.New(problem.Conflict, "device %s offers no shell (status %d): %s", s.Device, result.Status, result.Payload)
	}
	output := strings.TrimRight(*said.Output, "\n")
	if said.ExitCode != 0 {
		output += fmt.Sprintf("\n(exit code %d)", said.ExitCode)
	}
	return output, nil
}

func (g *Gateway) twin(ctx context.Context, actor access.Actor, s *Session, rest string) (string, error) {
	get := func() (link.Twin, error) { return g.o.Fleet.Twin(ctx, s.Device) }
	if rest != "" {
		if !json.Valid([]byte(rest)) {
			return "", problem.New(problem.Invalid, `what is merged is JSON, such as {"properties": {"desired": {"reportEvery": 10}}}`)
		}
		get = func() (link.Twin, error) { return g.o.Fleet.PatchTwin(ctx, actor, s.Device, "", json.RawMessage(rest)) }
	}
	t, err := get()
	if err != nil {
		return "", err
	}
	return indented(t.Document), nil
}

func (g *Gateway) send(ctx context.Context, actor access.Actor, s *Session, rest string) (string, error) {
	if rest == "" {
		return "", problem.New(problem.Invalid, "say what to send: send TEXT")
	}
	m, err := g.o.Fleet.SendMessage(ctx, actor, link.SendMessage{DeviceID: s.Device, Body: []byte(rest)})
	if err != nil {
		return "", err
	}
	return "queued as " + m.MessageID, nil
}

// shownRows is how many rows of a query a shell shows.
const shownRows = 100

// query asks the data of stamps. That it was asked is an entry of the audit
// log, as what it showed may be people's.
func (g *Gateway) query(ctx context.Context, actor access.Actor, s *Session, rest string) (string, error) {
	var answers []string
	entry := audit.Entry{Actor: actor.Name, Action: "session.query", Object: "session/" + s.ID, Environment: s.Environment, Grant: s.Grant, Detail: mask(rest)}
	err := g.o.Audit.Around(ctx, entry, func(*audit.Entry) error {
		all, err := g.o.Fleet.Query(ctx, s.Environment, s.Stamp, link.RunQuery{Query: rest, Limit: shownRows})
		for _, a := range all {
			answers = append(answers, "-- "+a.Stamp)
			if a.Problem != "" {
				answers = append(answers, a.Problem)
			}
			for _, row := range a.Items {
				answers = append(answers, string(row))
			}
			if a.Next != "" {
				answers = append(answers, fmt.Sprintf("… more than %d rows", shownRows))
			}
		}
		return err
	})
	return strings.Join(answers, "\n"), err
}

// indented sets out JSON on lines.
func indented(raw json.RawMessage) string {
	var out bytes.Buffer
	if len(raw) == 0 || json.Indent(&out, raw, "", "  ") != nil {
		return string(raw)
	}
	return out.String()
}

// Close closes a session of the actor's own.
func (g *Gateway) Close(ctx context.Context, actor access.Actor, id string) (Session, error) {
	s, err := session(ctx, g.o.DB, id)
	if err != nil {
		return s, err
	}
	if s.Person != personOf(actor) {
		return s, problem.New(problem.Denied, "session %s is not of %s; revoke its grant to end it", id, actor.Name)
	}
	if err := g.close(ctx, id, actor.Name, "closed by "+actor.Name); err != nil {
		return s, err
	}
	return session(ctx, g.o.DB, id)
}

// personOf is who comes back to a session of theirs: a person by any of their
// tokens, and a token that belongs to nobody.
func personOf(actor access.Actor) string {
	if person := grant.PartyOf(actor).Person; person != "" {
		return person
	}
	return "token:" + actor.TokenID
}

func firstOf(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

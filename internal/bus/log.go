package bus

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/slipway/slipway/internal/problem"
)

// LogConfig describes a durable log.
type LogConfig struct {
	Name     string   // the stream's name
	Subjects []string // what it keeps
	MaxBytes int64    // required: the oldest records go beyond it
	MaxAge   time.Duration
}

// Log is a stream used as an append-only log: one writer connection that keeps
// the order of each caller, any number of readers.
type Log struct {
	name   string
	prefix string // of its subjects, where others use the same servers
	conn   *Conn
	stream jetstream.Stream
	js     jetstream.JetStream

	inbox string // acknowledgements arrive at inbox + number
	acks  *nats.Subscription

	mu      sync.Mutex
	next    uint64
	pending map[uint64]*pendingAppend
	kept    int        // bytes kept to be sent again
	free    *sync.Cond // there is room for one more
	closed  bool
	stalled bool              // the servers do not take anything just now
	probe   uint64            // the append that tries whether they do again
	fence   func() bool       // nil, or whether what is under way still counts
	held    map[uint64]uint64 // sequences of appends that are acknowledged when it is certain that they count
}

// pendingAppend is an append that the stream has not answered. Where servers
// come and go it is kept to be sent again.
type pendingAppend struct {
	done    func(sequence uint64, err error)
	at      time.Time
	sent    time.Time // zero: to be sent, or sent again
	subject string
	data    []byte
}

// Record is one entry of a log.
type Record struct {
	Subject  string
	Sequence uint64
	Time     time.Time
	Data     []byte
}

const (
	// maxPending is how many appends may wait for the stream's answer; the
	// next caller waits, and with it the device that sent too fast.
	maxPending = 8192
	// maxKept bounds the bytes of those that are kept to be sent again.
	maxKept = 64 << 20
	// appendLapse is when an unanswered append is given up, and patientLapse
	// where servers elect another leader meanwhile.
	appendLapse  = 10 * time.Second
	patientLapse = 30 * time.Second
)

// OpenLog creates the stream or brings its limits up to date.
func (c *Conn) OpenLog(ctx context.Context, config LogConfig) (*Log, error) {
	js, err := jetstream.New(c.nc)
	if err != nil {
		return nil, err
	}
	stream, err := c.createStream(ctx, js, config)
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", config.Name, err)
	}
	l := &Log{name: config.Name, conn: c, stream: stream, js: js, pending: map[uint64]*pendingAppend{}, inbox: c.nc.NewRespInbox() + ".", prefix: c.Within("")}
	l.free = sync.NewCond(&l.mu)
	if l.acks, err = c.nc.Subscribe(l.inbox+"*", l.acknowledged); err != nil {
		return nil, fmt.Errorf("open log %s: %w", config.Name, err)
	}
	if err := l.acks.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	return l, nil
}

// createStream creates the stream or brings its limits up to date. Servers that
// come and go may be electing a leader just now; those that processes keep
// themselves are as many as there must be once all processes have come.
func (c *Conn) createStream(ctx context.Context, js jetstream.JetStream, config LogConfig) (jetstream.Stream, error) {
	for deadline := time.Now().Add(patientLapse); ; {
		stream, err := js.CreateOrUpdateStream(ctx, c.streamOf(config))
		if err == nil || !c.elsewhere || !absent(err) || c.own == nil && time.Now().After(deadline) {
			return stream, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(resendEvery):
		}
	}
}

// noPeers is what JetStream answers while too few servers are there for the
// replicas of a stream.
const noPeers = 10005

// absent reports whether a call to JetStream failed for want of servers.
func absent(err error) bool {
	var refused *jetstream.APIError
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.As(err, &refused) && (refused.Code == http.StatusServiceUnavailable || refused.ErrorCode == noPeers)
}

func (c *Conn) streamOf(config LogConfig) jetstream.StreamConfig {
	stream := jetstream.StreamConfig{
		Name: config.Name, Replicas: c.replicas,
		MaxBytes: config.MaxBytes, MaxAge: config.MaxAge,
		Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld,
		Duplicates: 100 * time.Millisecond, AllowDirect: true,
	}
	if c.namespace != "" {
		stream.Name = c.namespace + "-" + config.Name
	}
	if c.elsewhere {
		// What the leader has is asked for: another server may be behind it.
		stream.Duplicates, stream.AllowDirect = forgetAfter, false
	}
	for _, subject := range config.Subjects {
		stream.Subjects = append(stream.Subjects, c.Within(subject))
	}
	return stream
}

// Append adds a record and calls done with its sequence once the stream holds
// it, from a goroutine that must not be kept waiting. Appends of one caller
// keep their order. data is not used after Append returns.
func (l *Log) Append(subject string, data []byte, done func(sequence uint64, err error)) {
	l.mu.Lock()
	for (len(l.pending) >= maxPending || l.kept > maxKept) && !l.closed {
		l.free.Wait()
	}
	if l.closed {
		l.mu.Unlock()
		done(0, problem.New(problem.NotReady, "the log %s is closed", l.name))
		return
	}
	l.next++
	n := l.next
	waiting := &pendingAppend{done: done, at: time.Now(), subject: l.prefix + subject}
	l.pending[n] = waiting
	queued := l.conn.elsewhere && l.keep(waiting, data)
	l.mu.Unlock()
	switch {
	case queued:
	case l.conn.elsewhere:
		l.send(n, waiting)
	default:
		if err := l.conn.nc.PublishRequest(waiting.subject, l.replyTo(n), data); err != nil {
			l.settle(n, 0, err)
		}
	}
}

func (l *Log) replyTo(n uint64) string { return l.inbox + strconv.FormatUint(n, 36) }

// acknowledged takes the stream's answer: {"stream":"…","seq":n} or an error.
func (l *Log) acknowledged(m *nats.Msg) {
	n, err := strconv.ParseUint(m.Subject[len(l.inbox):], 36, 64)
	if err != nil {
		return
	}
	sequence, err := parseAck(m)
	if l.conn.elsewhere && problem.Is(err, problem.NotReady) {
		l.postpone(n)
		return
	}
	if err != nil || !l.hold(n, sequence) {
		l.settle(n, sequence, err)
	}
	if l.conn.elsewhere {
		l.resume(n)
	}
}

func (l *Log) settle(n, sequence uint64, err error) {
	l.mu.Lock()
	waiting, ok := l.pending[n]
	if ok {
		delete(l.pending, n)
		delete(l.held, n)
		full := l.kept > maxKept
		l.kept -= len(waiting.data)
		if len(l.pending) == maxPending-1 || full {
			l.free.Broadcast()
		}
	}
	l.mu.Unlock()
	if ok {
		waiting.done(sequence, err)
	}
}

// closeLapse is how long appends under way are waited for at the end.
const closeLapse = 2 * time.Second

// Run gives up appends that are never answered, so that their callers learn
// of it, until ctx ends; then it waits for those under way and closes the log.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(resendEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.drain()
			l.close()
			return nil
		case now := <-tick.C:
			l.fenced()
			l.release()
			l.resend(now)
			for _, n := range l.overdue(now) {
				l.settle(n, 0, problem.New(problem.NotReady, "the log %s does not answer", l.name))
			}
		}
	}
}

func (l *Log) overdue(now time.Time) (late []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lapse := appendLapse
	if l.conn.elsewhere {
		lapse = patientLapse
	}
	for n, waiting := range l.pending {
		if now.Sub(waiting.at) > lapse {
			late = append(late, n)
		}
	}
	return late
}

// drain waits until nothing is under way, or too long.
func (l *Log) drain() {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(closeLapse); time.Now().Before(end); <-poll.C {
		l.mu.Lock()
		left := len(l.pending)
		l.mu.Unlock()
		if left == 0 {
			return
		}
	}
}

func (l *Log) close() {
	l.mu.Lock()
	l.closed = true
	left := l.pending
	l.pending = map[uint64]*pendingAppend{}
	l.free.Broadcast()
	l.mu.Unlock()
	for _, waiting := range left {
		waiting.done(0, problem.New(problem.NotReady, "the log %s is closing", l.name))
	}
}

// inProcess is in the answer to an append that was sent again while the servers
// still agree on the first one: its sequence is to be had later.
const inProcess = `"err_code":10158`

// parseAck reads the sequence out of a publish acknowledgement. The usual
// answer is short and fixed in form, so it is read without a JSON decoder.
func parseAck(m *nats.Msg) (uint64, error) {
	if m.Header.Get("Status") == "503" {
		return 0, problem.New(problem.NotReady, "the log is away")
	}
	text := string(m.Data)
	if strings.Contains(text, `"code":503`) || strings.Contains(text, inProcess) {
		return 0, problem.New(problem.NotReady, "the log cannot take anything just now: %s", text)
	}
	if strings.Contains(text, `"error"`) {
		return 0, fmt.Errorf("the log refused: %s", text)
	}
	const key = `"seq":`
	at := strings.Index(text, key)
	if at < 0 {
		return 0, fmt.Errorf("the log answered %q", text)
	}
	var sequence uint64
	for _, digit := range text[at+len(key):] {
		if digit < '0' || digit > '9' {
			break
		}
		sequence = sequence*10 + uint64(digit-'0')
	}
	return sequence, nil
}

// LogState tells how much a log holds.
type LogState struct {
	First, Last uint64
	Messages    uint64
	Bytes       uint64
	Created     time.Time
}

// State asks the stream how much it holds.
func (l *Log) State(ctx context.Context) (LogState, error) {
	info, err := insist(ctx, l, func(ctx context.Context) (*jetstream.StreamInfo, error) { return l.stream.Info(ctx) })
	if err != nil {
		return LogState{}, fmt.Errorf("state of %s: %w", l.name, err)
	}
	return LogState{info.State.FirstSeq, info.State.LastSeq, info.State.Msgs, info.State.Bytes, info.Created}, nil
}

// Read returns up to limit records on a subject with a sequence above after,
// oldest first, and whether there are more.
func (l *Log) Read(ctx context.Context, subject string, after uint64, limit int) ([]Record, bool, error) {
	var page []Record
	for from := after + 1; len(page) <= limit; {
		m, err := insist(ctx, l, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
			return l.stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(l.prefix+subject))
		})
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return page, false, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("read %s: %w", l.name, err)
		}
		page = append(page, Record{strings.TrimPrefix(m.Subject, l.prefix), m.Sequence, m.Time, m.Data})
		from = m.Sequence + 1
	}
	return page[:limit], true, nil
}

// Last returns the newest limit records on a subject, oldest first.
func (l *Log) Last(ctx context.Context, subject string, limit int) ([]Record, error) {
	state, err := l.State(ctx)
	if err != nil || state.Last == 0 {
		return nil, err
	}
	newest, err := insist(ctx, l, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return l.stream.GetLastMsgForSubject(ctx, l.prefix+subject)
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", l.name, err)
	}
	// There is no reading backwards: widen the span until it holds enough.
	for span := uint64(limit) * 4; ; span *= 8 {
		from := uint64(0)
		if newest.Sequence > span {
			from = newest.Sequence - span
		}
		found, err := l.collect(ctx, subject, from, newest.Sequence)
		if err != nil {
			return nil, err
		}
		if len(found) >= limit || from < state.First {
			return found[max(0, len(found)-limit):], nil
		}
	}
}

// collect reads every record on subject in (after, to].
func (l *Log) collect(ctx context.Context, subject string, after, to uint64) ([]Record, error) {
	var found []Record
	done := errors.New("done")
	if after >= to {
		return nil, nil
	}
	err := l.Follow(ctx, subject, after, func(r Record) error {
		if r.Sequence <= to {
			found = append(found, r)
		}
		if r.Sequence >= to {
			return done
		}
		return nil
	})
	if errors.Is(err, done) {
		err = nil
	}
	return found, err
}

// A follower holds at most so much that each has not come to: a slow one must
// not fill the memory.
const (
	followMessages = 500
	followBytes    = 2 << 20
)

// forgetTimeout bounds how long a follower that leaves waits for the server.
const forgetTimeout = 5 * time.Second

// forget takes a follower's consumer away at once. The server would do that
// minutes later, and refuses new ones where too many are left behind.
func (l *Log) forget(ctx context.Context, consumer jetstream.Consumer) {
	info := consumer.CachedInfo()
	if info == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTimeout)
	defer cancel()
	// Where this fails, the server forgets it later by itself.
	_ = l.stream.DeleteConsumer(ctx, info.Name)
}

// Before returns the sequence of the last record older than a time, 0 when
// there is none.
func (l *Log) Before(ctx context.Context, at time.Time) (before uint64, err error) {
	state, err := l.State(ctx)
	if err != nil {
		return 0, err
	}
	// Sequences grow with time; between two of them there may be gaps only
	// where the log was cleared.
	low, high := state.First, state.Last+1
	for low < high {
		middle := low + (high-low)/2
		m, err := l.stream.GetMsg(ctx, middle, jetstream.WithGetMsgSubject(">"))
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return 0, fmt.Errorf("read %s: %w", l.name, err)
		}
		if err == nil && m.Time.Before(at) {
			low = max(m.Sequence, middle) + 1
		} else {
			high = middle
		}
	}
	return max(low, 1) - 1, nil
}

// Follow calls each for every record on a subject with a sequence above after,
// and goes on with new ones until ctx ends or each fails.
func (l *Log) Follow(ctx context.Context, subject string, after uint64, each func(Record) error) error {
	consumer, err := l.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{l.prefix + subject},
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:    after + 1,
	})
	if err != nil {
		return fmt.Errorf("follow %s: %w", l.name, err)
	}
	return l.take(ctx, consumer, func(r Record, _ uint64) error { return each(r) })
}

// errTaken ends the taking of what a consumer has.
var errTaken = errors.New("that was all")

// LastOfEach calls each for the newest record of every subject, oldest first and
// without its data, and returns once it has come to the last.
func (l *Log) LastOfEach(ctx context.Context, subject string, each func(Record)) error {
	consumer, err := l.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{l.prefix + subject},
		DeliverPolicy:  jetstream.DeliverLastPerSubjectPolicy,
		HeadersOnly:    true,
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", l.name, err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("read %s: %w", l.name, err)
	}
	if info.NumPending == 0 {
		l.forget(ctx, consumer)
		return nil
	}
	err = l.take(ctx, consumer, func(r Record, pending uint64) error {
		each(r)
		if pending == 0 {
			return errTaken
		}
		return nil
	})
	if errors.Is(err, errTaken) {
		return nil
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// take hands on what a consumer gets, with how much there is left of it, until
// ctx ends or each fails.
func (l *Log) take(ctx context.Context, consumer jetstream.Consumer, each func(r Record, pending uint64) error) error {
	messages, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(followMessages, followBytes))
	if err != nil {
		return fmt.Errorf("follow %s: %w", l.name, err)
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer func() { stop(); messages.Stop(); l.forget(ctx, consumer) }()
	for {
		m, err := messages.Next()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("follow %s: %w", l.name, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("follow %s: %w", l.name, err)
		}
		if err := each(Record{strings.TrimPrefix(m.Subject(), l.prefix), meta.Sequence.Stream, meta.Timestamp, m.Data()}, meta.NumPending); err != nil {
			return err
		}
	}
}

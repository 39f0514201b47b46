// Package retry is the one policy by which a device tries again: bounded,
// jittered campaigns that survive a reboot, with long quiet between them. It
// is pure: state, time and chance go in, the next state and a delay come out.
package retry

import (
	"cmp"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Policy bounds how a device tries again.
type Policy struct {
	Base     time.Duration // the first delay is drawn from [0, Base]
	Cap      time.Duration // no delay is drawn from more than [0, Cap]
	Attempts int           // of one campaign
	Elapsed  time.Duration // of one campaign
	Dormant  time.Duration // the least quiet between campaigns; up to half of it is added
	Stable   time.Duration // a connection that held this long ends the campaign well
	Tries    int           // of one request over a connection, the first included
}

// Default suits devices in the field: about half an hour of trying, then at
// least a quarter of an hour of quiet.
var Default = Policy{Base: time.Second, Cap: 5 * time.Minute, Attempts: 20, Elapsed: 30 * time.Minute, Dormant: 15 * time.Minute, Stable: time.Minute, Tries: 4}

// Complete fills in what is zero from Default.
func (p Policy) Complete() Policy {
	return Policy{
		Base: cmp.Or(p.Base, Default.Base), Cap: cmp.Or(p.Cap, Default.Cap), Attempts: cmp.Or(p.Attempts, Default.Attempts), Elapsed: cmp.Or(p.Elapsed, Default.Elapsed),
		Dormant: cmp.Or(p.Dormant, Default.Dormant), Stable: cmp.Or(p.Stable, Default.Stable), Tries: cmp.Or(p.Tries, Default.Tries),
	}
}

// maxRetryAfter clamps what a server asks for: beyond it, it is a fault.
const maxRetryAfter = time.Hour

// State is where a device stands; it is stored, so that a boot loop does not
// begin anew each time.
type State struct {
	Attempt   int           `json:"attempt"`             // failures of this campaign
	Began     time.Time     `json:"began,omitzero"`      // when it began; zero: none runs
	NotBefore time.Time     `json:"notBefore,omitzero"`  // the next attempt's earliest moment
	Delay     time.Duration `json:"delay,omitempty"`     // what NotBefore was made of
	Dormant   bool          `json:"dormant,omitempty"`   // the campaign gave up; NotBefore begins another
	Campaigns int           `json:"campaigns,omitempty"` // given up in a row
	Connected time.Time     `json:"connected,omitzero"`  // since when; zero: not
	Moved     bool          `json:"moved,omitempty"`     // this campaign asked provisioning again already
}

// Begin notes an attempt at now; a campaign begins with the first one after
// quiet, be it that the last campaign gave up or that the device lay without
// power for longer than a campaign lasts.
func (p Policy) Begin(s State, now time.Time) State {
	switch {
	case s.Dormant, s.Began.IsZero(), now.Sub(s.NotBefore) >= max(p.Dormant, p.Elapsed):
		return State{Began: now, NotBefore: now, Campaigns: s.Campaigns}
	case now.Before(s.Began): // the clock was set back
		s.Began = now
	}
	return s
}

// Failed notes a failed attempt and says how long to wait. retryAfter is what
// the server asked for, 0 for nothing: a lower bound, with jitter on top.
func (p Policy) Failed(s State, now time.Time, retryAfter time.Duration, r *rand.Rand) (State, time.Duration) {
	delay, asked := jitter(p.ceiling(s.Attempt), r), clamp(retryAfter)
	if asked > 0 {
		delay = p.honour(asked, r)
	}
	s.Attempt++
	s.Connected = time.Time{}
	if s.Attempt >= p.Attempts || now.Add(delay).Sub(s.Began) > p.Elapsed {
		return p.rest(s, now, max(p.Dormant, asked), r)
	}
	s.NotBefore, s.Delay = now.Add(delay), delay
	return s, delay
}

// GiveUp ends the campaign after a permanent answer.
func (p Policy) GiveUp(s State, now time.Time, r *rand.Rand) (State, time.Duration) {
	return p.rest(s, now, p.Dormant, r)
}

// rest ends the campaign; the next begins after a quiet no two devices share.
func (p Policy) rest(s State, now time.Time, least time.Duration, r *rand.Rand) (State, time.Duration) {
	quiet := least + jitter(least/2, r)
	s.Dormant, s.Connected, s.Campaigns = true, time.Time{}, s.Campaigns+1
	s.NotBefore, s.Delay = now.Add(quiet), quiet
	return s, quiet
}

// Move notes that the hub said "not here" and that provisioning is asked at
// once: the one time this campaign may do so.
func (p Policy) Move(s State, now time.Time) State {
	s.Moved, s.NotBefore, s.Delay = true, now, 0
	return s
}

// honour is what a server asked for and jitter on top.
func (p Policy) honour(asked time.Duration, r *rand.Rand) time.Duration {
	return asked + jitter(max(p.Base, asked/4), r)
}

// unasked is how long to wait before asking about a running operation when the
// server does not say.
const unasked = 2 * time.Second

// Poll is how long to wait before asking again how an operation that the
// server works on is getting on; asked is what the server said, or 0.
func (p Policy) Poll(asked time.Duration, r *rand.Rand) time.Duration {
	if asked = clamp(asked); asked == 0 {
		asked = unasked
	}
	return asked + jitter(asked/4, r)
}

func clamp(asked time.Duration) time.Duration { return min(max(asked, 0), maxRetryAfter) }

// ceiling is min(Cap, Base·2ⁿ).
func (p Policy) ceiling(attempt int) time.Duration {
	if attempt > 30 || p.Base<<attempt > p.Cap || p.Base<<attempt <= 0 {
		return p.Cap
	}
	return p.Base << attempt
}

// jitter draws from [0, ceiling].
func jitter(ceiling time.Duration, r *rand.Rand) time.Duration {
	if ceiling <= 0 {
		return 0
	}
	return time.Duration(r.Int64N(int64(ceiling) + 1))
}

// Up notes that a hub let the device in. The search for its place has ended,
// so a later "not here" may be asked about again; the back-off stays until the
// connection has held.
func (p Policy) Up(s State, now time.Time) State {
	s.Connected, s.Moved = now, false
	return s
}

// Held notes that the connection stood for p.Stable: the campaign ended well.
func (p Policy) Held(s State) State { return State{Connected: s.Connected} }

// Left notes that the device itself ended the connection, which is no failure.
func (p Policy) Left(s State) State {
	s.Connected = time.Time{}
	return s
}

// Down notes that the connection is gone and says how long to wait. One that
// held ends the campaign; one that did not is a failed attempt of it.
func (p Policy) Down(s State, now time.Time, r *rand.Rand) (State, time.Duration) {
	if !s.Connected.IsZero() && now.Sub(s.Connected) >= p.Stable {
		s = State{Began: now}
	}
	return p.Failed(s, now, 0, r)
}

// SentAway notes that the hub ended the connection and said when to come back,
// and says how long to wait. That is no failure of a connection that had held,
// and a little jitter is enough, as each device is told another time.
func (p Policy) SentAway(s State, now time.Time, asked time.Duration, r *rand.Rand) (State, time.Duration) {
	if s.Connected.IsZero() || now.Sub(s.Connected) < p.Stable {
		return p.Failed(s, now, asked, r)
	}
	delay := clamp(asked) + jitter(p.Base, r)
	return State{NotBefore: now.Add(delay), Delay: delay}, delay
}

// Booted takes up what was stored before a reboot. A device that went down
// before its connection had held has failed an attempt, so that a boot loop
// backs off like any other fault.
func (p Policy) Booted(s State, now time.Time, r *rand.Rand) State {
	switch {
	case s.Connected.IsZero():
		return s
	case s.Began.IsZero(): // it had held
		return State{}
	}
	s, _ = p.Failed(s, now, 0, r)
	return s
}

// Wait is how long the next attempt has to wait at now, also after a reboot. A
// clock that jumped back does not make it longer than it was drawn.
func (p Policy) Wait(s State, now time.Time) time.Duration {
	return min(max(0, s.NotBefore.Sub(now)), s.Delay)
}

// Seed is a device's own source of chance, different for each device and each
// boot, so that no two devices that lose power together come back together.
// It may be used by several goroutines.
func Seed(device string, boot uint64) *rand.Rand {
	hash := fnv.New64a()
	hash.Write([]byte(device))
	return rand.New(&guarded{source: rand.NewPCG(hash.Sum64(), boot*0x9e3779b97f4a7c15+1)})
}

// guarded lets goroutines share a source.
type guarded struct {
	mu     sync.Mutex
	source rand.Source
}

// Uint64 returns the next number.
func (g *guarded) Uint64() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.source.Uint64()
}

// Transient reports whether an answer with this HTTP status may be different
// next time.
func Transient(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// After reads a Retry-After value, seconds or an HTTP date; nonsense is 0, and
// what is absurdly long is clamped.
func After(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) { // out of range is the nearest number
		return clamp(time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return clamp(at.Sub(now))
	}
	return 0
}

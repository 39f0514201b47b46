// Package retry is the one policy by which a device tries again: bounded,
// jittered campaigns that survive a reboot, with long quiet between them. It
// is pure: state, time and chance go in, the next state and a delay come out.
package retry

import (
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
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
}

// Default suits devices in the field: about half an hour of trying, then at
// least a quarter of an hour of quiet.
var Default = Policy{Base: time.Second, Cap: 5 * time.Minute, Attempts: 20, Elapsed: 30 * time.Minute, Dormant: 15 * time.Minute, Stable: time.Minute}

// maxRetryAfter clamps what a server asks for: beyond it, it is a fault.
const maxRetryAfter = time.Hour

// State is where a device stands; it is stored, so that a boot loop does not
// begin anew each time.
type State struct {
	Attempt   int       `json:"attempt"`             // failures of this campaign
	Began     time.Time `json:"began,omitzero"`      // when it began; zero: none runs
	NotBefore time.Time `json:"notBefore,omitzero"`  // the next attempt's earliest moment
	Dormant   bool      `json:"dormant,omitempty"`   // the campaign gave up; NotBefore begins another
	Campaigns int       `json:"campaigns,omitempty"` // given up in a row
	Connected time.Time `json:"connected,omitzero"`  // since when; zero: not
	Moved     bool      `json:"moved,omitempty"`     // this campaign asked provisioning again already
}

// Begin notes an attempt at now; a campaign begins with the first one after
// quiet.
func (p Policy) Begin(s State, now time.Time) State {
	if s.Dormant || s.Began.IsZero() {
		campaigns := s.Campaigns
		s = State{Began: now, Campaigns: campaigns}
	}
	return s
}

// Failed notes a failed attempt and says how long to wait. retryAfter is what
// the server asked for, 0 for nothing: a lower bound, with jitter on top.
func (p Policy) Failed(s State, now time.Time, retryAfter time.Duration, r *rand.Rand) (State, time.Duration) {
	delay := jitter(p.ceiling(s.Attempt), r)
	if asked := min(max(retryAfter, 0), maxRetryAfter); asked > 0 {
		delay = asked + jitter(max(p.Base, asked/4), r)
	}
	s.Attempt++
	s.Connected = time.Time{}
	if s.Attempt >= p.Attempts || now.Add(delay).Sub(s.Began) > p.Elapsed {
		return p.GiveUp(s, now, r)
	}
	s.NotBefore = now.Add(delay)
	return s, delay
}

// GiveUp ends the campaign: after a permanent answer, or when its bounds are
// reached. The next begins after a quiet no two devices share.
func (p Policy) GiveUp(s State, now time.Time, r *rand.Rand) (State, time.Duration) {
	quiet := p.Dormant + jitter(p.Dormant/2, r)
	s.Dormant, s.Campaigns, s.NotBefore = true, s.Campaigns+1, now.Add(quiet)
	return s, quiet
}

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

// Up notes that a hub let the device in. That ends no campaign yet, but the
// device is where it belongs, so a later refusal may be asked about again.
func (p Policy) Up(s State, now time.Time) State {
	s.Connected, s.Moved = now, false
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

// Wait is how long the next attempt has to wait at now, also after a reboot. A
// clock that jumped back does not make it longer than the policy ever asks.
func (p Policy) Wait(s State, now time.Time) time.Duration {
	return min(max(0, s.NotBefore.Sub(now)), max(p.Dormant*3/2, p.Cap, maxRetryAfter*5/4))
}

// Seed is a device's own source of chance, different for each device and each
// boot, so that no two devices that lose power together come back together.
func Seed(device string, boot uint64) *rand.Rand {
	hash := fnv.New64a()
	hash.Write([]byte(device))
	return rand.New(rand.NewPCG(hash.Sum64(), boot*0x9e3779b97f4a7c15+1))
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

// After reads a Retry-After value, seconds or an HTTP date; nonsense is 0.
func After(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		return min(max(0, time.Duration(seconds)*time.Second), maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, at.Sub(now)), maxRetryAfter)
	}
	return 0
}

// Once allows an operation one immediate retry, and no second one.
type Once struct{ used bool }

// Immediate reports whether to try again at once; the next call says no.
func (o *Once) Immediate() bool {
	first := !o.used
	o.used = true
	return first
}

// Budget keeps retries below a share of requests, with a floor.
type Budget struct {
	Share  float64 // retries earned by each request
	Floor  float64 // retries earned each second
	Most   float64 // that may be saved up
	tokens float64
	at     time.Time
}

// NewBudget allows a retry for every five requests and one every ten seconds.
func NewBudget(now time.Time) *Budget {
	return &Budget{Share: 0.2, Floor: 0.1, Most: 10, tokens: 10, at: now}
}

// Request earns a share of a retry.
func (b *Budget) Request(now time.Time) {
	b.earn(now)
	b.tokens = min(b.Most, b.tokens+b.Share)
}

// Retry spends a retry if there is one.
func (b *Budget) Retry(now time.Time) bool {
	b.earn(now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (b *Budget) earn(now time.Time) {
	b.tokens = min(b.Most, b.tokens+b.Floor*max(0, now.Sub(b.at).Seconds()))
	b.at = now
}

// Phase spreads periodic work: the part of a period by which this device's
// work is shifted against all others'.
func Phase(device string, period time.Duration) time.Duration {
	if period <= 0 {
		return 0
	}
	return time.Duration(Seed(device, 0).Int64N(int64(period)))
}

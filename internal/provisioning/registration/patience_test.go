package registration

import (
	"context"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// hanging is a stamp that answers nothing in time while it hangs.
type hanging struct {
	Stamps
	hangs bool
	asked int
}

func (h *hanging) Put(context.Context, string, link.PutIdentity) (link.IdentityResult, error) {
	h.asked++
	if h.hangs {
		return link.IdentityResult{}, problem.New(problem.TimedOut, "no answer")
	}
	return link.IdentityResult{}, nil
}

func TestAStampThatHangsIsAskedNowAndThen(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	stamp := &hanging{hangs: true}
	p := newPatience(stamp, func() time.Time { return now })
	put := func(name string) error {
		_, err := p.Put(t.Context(), name, link.PutIdentity{})
		return err
	}
	for range 10 {
		if err := put("a"); err == nil {
			t.Error("a stamp that hangs answered")
		}
	}
	if stamp.asked != 1 {
		t.Errorf("asked %d times at once", stamp.asked)
	}
	if err := put("b"); !problem.Is(err, problem.TimedOut) {
		t.Errorf("another stamp was not asked: %v", err)
	}
	now = now.Add(rest)
	if err := put("a"); !problem.Is(err, problem.TimedOut) {
		t.Errorf("not tried after its rest: %v", err)
	}
	stamp.hangs = false
	if err := put("a"); !problem.Is(err, problem.NotReady) {
		t.Errorf("asked again at once: %v", err)
	}
	now = now.Add(rest)
	if !p.admits("a") || p.admits("a") {
		t.Error("not exactly one request finds out whether it answers again")
	}
	p.note("a", false)
	for range 3 {
		if err := put("a"); err != nil {
			t.Errorf("answers again: %v", err)
		}
	}
}

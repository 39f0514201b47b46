package promotion_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/link"
)

// TestKilledAnywhereItGoesOn takes releases through all environments by a
// control process that is started anew at any moment, while stamps come and go.
func TestKilledAnywhereItGoesOn(t *testing.T) {
	for seed := range uint64(3) {
		w := pipeline(t, nil)
		chance := rand.New(rand.NewPCG(seed, 7))
		w.promoted("v1", "test", "staging", "production")
		w.promoted("v2", "test", "staging")
		bad := seed%2 == 1
		for _, s := range w.stamps {
			s.mu.Lock()
			s.fails = func(release string, _ int) bool { return bad && s.environment == "production" && release == "v2" }
			s.mu.Unlock()
		}
		p := w.start("production", "v2")
		for n := 0; !w.show(p.ID).State.Over(); n++ {
			if n > 2000 {
				t.Fatalf("seed %d: %+v", seed, w.show(p.ID))
			}
			w.anything(chance)
		}
		w.settled(p.ID, bad)
	}
}

// anything has somebody do a part of their work, or the process end before it
// could do more.
func (w *world) anything(chance *rand.Rand) {
	w.t.Helper()
	ctx := w.t.Context()
	names := []string{"canary", "prod-1", "prod-2"}
	s := w.stamps[names[chance.IntN(len(names))]]
	switch chance.IntN(8) {
	case 0:
		w.restart()
	case 1:
		s.mu.Lock()
		s.away = chance.IntN(3) == 0
		s.mu.Unlock()
	case 2, 3:
		must(w.t, stale(w.promotions.Look(ctx)))
	case 4, 5:
		must(w.t, stale(w.rollouts.Look(ctx)))
	case 6:
		must(w.t, w.rollouts.Send(ctx))
	default:
		w.clock.pass(time.Second)
		w.tell(s)
	}
}

// settled holds the end against what must be so, whatever came in between.
func (w *world) settled(id string, bad bool) {
	w.t.Helper()
	want, state := "v2", promotion.Succeeded
	if bad {
		want, state = "v1", promotion.RolledBack
	}
	if d := w.show(id); d.State != state || w.current("production") != want {
		w.t.Fatalf("%s with production on %s", d.State, w.current("production"))
	}
	for _, name := range []string{"canary", "prod-1", "prod-2"} {
		w.stamps[name].mu.Lock()
		w.stamps[name].away = false
		w.stamps[name].mu.Unlock()
	}
	for range 3 {
		w.tick(11 * time.Second)
	}
	for _, name := range []string{"canary", "prod-1", "prod-2"} {
		s := w.stamps[name]
		if s.doc.Rollout != nil || s.doc.Base.Name != want || s.running()[want] != 200 {
			w.t.Errorf("%s: base %s, rollout %v, devices %v", name, s.doc.Base.Name, s.doc.Rollout, s.running())
		}
	}
}

// TestARollbackReachesDevicesAtOnce measures it by the real clock: the process
// dies right after the word was given, and one stamp does not answer.
func TestARollbackReachesDevicesAtOnce(t *testing.T) {
	w := pipeline(t, nil)
	w.promoted("v1", "test", "staging", "production")
	w.promoted("v2", "test", "staging", "production")
	slow, stop := w.stamps["canary"], make(chan struct{})
	slow.mu.Lock() // it answers nobody
	go func() { <-stop; slow.mu.Unlock() }()
	if _, err := w.promotions.Rollback(t.Context(), bob, promotion.Return{Environment: "production", Reason: "orders are lost"}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- w.rollouts.Run(ctx) }()
	go func() { ended <- w.promotions.Run(ctx) }()
	for _, name := range []string{"prod-1", "prod-2"} {
		s := w.stamps[name]
		w.until(name+" is told", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.doc.Base.Name == "v1"
		})
	}
	took := time.Since(began)
	close(stop)
	cancel()
	for range 2 {
		must(t, <-ended)
	}
	t.Logf("stamps were told %s after the process was started anew", took)
	if took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestWebhooksAreToldInOrder has one refuse at first.
func TestWebhooksAreToldInOrder(t *testing.T) {
	w := newWorld(t)
	var told hooks
	server := told.serve(t)
	w.environment("test", "", told.policy(server))
	w.releases.add("v1", link.ReleaseSpec{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.promotions.Run(ctx) }()
	go func() {
		for ctx.Err() == nil {
			w.clock.pass(100 * time.Millisecond)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	w.start("test", "v1")
	w.until("all is told", func() bool {
		must(t, stale(w.rollouts.Look(t.Context())))
		return told.last("event") == "promotion.succeeded" && told.last("status") == "success"
	})
	cancel()
	must(t, <-ended)
	told.check(t, w)
}

package hub

import "time"

const (
	// freshFor is how long an identity that was just made may come without
	// waiting behind a herd: it was sent here by provisioning.
	freshFor = 10 * time.Minute
	// maxFresh bounds how many are known at a time.
	maxFresh = 100_000
)

func (h *Hub) noteFresh(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.fresh) < maxFresh {
		h.fresh[id] = h.Now()
	}
}

func (h *Hub) isFresh(id string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	at, fresh := h.fresh[id]
	return fresh && h.Now().Sub(at) < freshFor
}

const (
	// awayFor is how long a process that stops is away, at a guess.
	awayFor = 2 * time.Second
	// leaving is how long devices are given to take what they are told.
	leaving = 2 * time.Second
)

// SendAway lets nobody in any more and tells every device that understands when
// to come back, each another time and no more in a second than are admitted. It
// waits a moment until they leave.
func (h *Hub) SendAway() {
	h.retiring.Store(true)
	h.mu.RLock()
	told := make([]*Session, 0, len(h.sessions))
	for _, s := range h.sessions { // in no order, so none is always the last
		told = append(told, s)
	}
	h.mu.RUnlock()
	n := 0
	for _, s := range told {
		if s.downlink.Later(awayFor + time.Duration(float64(n)/h.Limits.ConnectRate*float64(time.Second))) {
			told[n] = s
			n++
		}
	}
	late := time.After(leaving)
	for _, s := range told[:n] {
		select {
		case <-s.ended:
		case <-late:
			return
		}
	}
}

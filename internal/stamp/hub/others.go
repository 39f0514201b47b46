package hub

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Others are the other processes of the stamp, as the hub needs them. A device
// is connected to one of them at most.
type Others interface {
	// Live reports whether what devices say to this process still counts, and
	// Admits whether it may let devices in.
	Live() bool
	Admits() bool
	// Claim has the others end what connection they have of an identity that
	// has connected here. Of two that claim at once, the greater claim wins.
	Claim(ctx context.Context, c Claim) (Claimed, error)
	// Cut has the others end the connections of an identity and its modules,
	// and returns when none of them has one.
	Cut(ctx context.Context, id, reason string) error
	// Pump has whoever has the device look at what waits for it, and Tell has
	// it told of a change.
	Pump(id string)
	Tell(c Change)
	// Find waits until one of the others has the device, taking methods, and
	// returns which. The empty name is nobody.
	Find(ctx context.Context, id string, wait time.Duration) (process string)
	// Invoke runs a method through another process.
	Invoke(ctx context.Context, process string, req link.InvokeMethod) (Invoked, error)
}

// Claim says that an identity has connected to a process.
type Claim struct {
	DeviceID string `json:"deviceId"`
	Claim    string `json:"claim"`
}

// Claimed is what became of a claim.
type Claimed struct {
	Lost bool `json:"lost"` // another process's is greater
	Had  bool `json:"had"`  // a connection was ended for it
}

// Change is a change of desired properties, from one version to the next.
type Change struct {
	DeviceID string `json:"deviceId"`
	Before   int64  `json:"before"`
	Version  int64  `json:"version"`
	Patch    []byte `json:"patch"`
}

const takenOver = "taken over by a new connection"

// claim has the other processes let go of a device that has connected here.
func (h *Hub) claim(ctx context.Context, s *Session) error {
	if h.Others == nil {
		return nil
	}
	claimed, err := h.Others.Claim(ctx, Claim{s.DeviceID, s.claim})
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.claim = ""
	if claimed.Lost {
		return problem.New(problem.NotReady, "device %s connects elsewhere at the same time; try again", s.DeviceID)
	}
	if claimed.Had && h.fighting(s.DeviceID, h.Now()) {
		h.throttled.Add(1)
		return problem.New(problem.Busy, "device %s takes over its own connection again and again; do two clients share its identity?", s.DeviceID)
	}
	return nil
}

// LetGo ends the connection of an identity that has connected to another
// process, unless it connects here just as well and with the greater claim.
func (h *Hub) LetGo(c Claim) Claimed {
	defer h.lock(c.DeviceID)()
	s := h.session(c.DeviceID)
	if s == nil {
		return Claimed{}
	}
	h.mu.RLock()
	lost := s.claim > c.Claim
	h.mu.RUnlock()
	if lost {
		return Claimed{Lost: true}
	}
	s.cut(takenOver)
	return Claimed{Had: true}
}

// CutHere ends the connections of an identity and its modules to this process.
func (h *Hub) CutHere(id, reason string) {
	defer h.lock(id)() // a connect under way ends first
	h.cutFamily(id, reason)
}

// cutEverywhere ends the connections of an identity and its modules, and
// returns when there are none.
func (h *Hub) cutEverywhere(ctx context.Context, id, reason string) error {
	h.CutHere(id, reason)
	return h.cutElsewhere(ctx, id, reason)
}

// cutElsewhere must not be called with the device's lock held: two processes
// would wait for each other.
func (h *Hub) cutElsewhere(ctx context.Context, id, reason string) error {
	if h.Others == nil {
		return nil
	}
	return h.Others.Cut(ctx, id, reason)
}

// live reports whether what devices say to this process still counts.
func (h *Hub) live() bool { return h.Others == nil || h.Others.Live() }

// Ready is nil where the process may let devices in. A balancer before several
// processes asks.
func (h *Hub) Ready() error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.closing || h.apart || h.retiring.Load() || h.Others != nil && !h.Others.Admits() {
		return problem.New(problem.NotReady, "this process of the stamp serves nobody just now; try again later")
	}
	return nil
}

// letGoEvery is how often a process that retires lets go of some of its devices.
const letGoEvery = 50 * time.Millisecond

// Retire has new work go to the other processes, ends what is under way, and
// lets go of the devices no faster than the others take them, until ctx ends.
func (h *Hub) Retire(ctx context.Context) {
	h.retiring.Store(true)
	tick := time.NewTicker(letGoEvery)
	defer tick.Stop()
	for ; h.invoking.Load() > 0 && ctx.Err() == nil; <-tick.C {
	}
	share := max(1, int(h.Limits.ConnectRate*letGoEvery.Seconds()))
	for ; ctx.Err() == nil && h.cutSome(share, "the process is stopping") > 0; <-tick.C {
	}
}

// Apart ends all connections and lets nobody in: the other processes may
// believe that this one is gone. Together undoes it.
func (h *Hub) Apart() {
	h.setApart(true)
	h.CutAll("the process has lost the others of its stamp")
}

// Together lets devices in again.
func (h *Hub) Together() { h.setApart(false) }

func (h *Hub) setApart(apart bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.apart = apart
}

// PumpHere hands a device what waits for it, if it is connected here.
func (h *Hub) PumpHere(id string) {
	if s := h.session(id); s != nil {
		s.pump()
	}
}

// tell has a device told of a change, wherever it is connected.
func (h *Hub) tell(c Change) {
	s := h.session(c.DeviceID)
	switch {
	case s != nil && h.Others == nil:
		s.tell(c) // the lock of the device keeps the order
	case s != nil:
		s.follow(c)
	case h.Others != nil:
		h.Others.Tell(c)
	}
}

// TellHere tells a device of a change that another process made.
func (h *Hub) TellHere(c Change) {
	unlock := h.lock(c.DeviceID) // a connect under way has read the version before
	s := h.session(c.DeviceID)
	unlock()
	if s != nil {
		s.follow(c)
	}
}

func (s *Session) tell(c Change) {
	if qos, ok := s.Subscribed(DesiredChanges); ok {
		s.downlink.Desired(c.Version, c.Patch, qos)
	}
}

// missedAfter is how long a change is waited for that another one came before.
const missedAfter = time.Second

// follow tells the device of changes in the order of their versions, which
// different processes may bring about. A device that misses one is cut: it
// comes back and asks for the whole.
func (s *Session) follow(c Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Version <= s.desired {
		return
	}
	if s.early == nil {
		s.early = map[int64]Change{}
	}
	s.early[c.Before] = c
	for next, ok := s.early[s.desired]; ok; next, ok = s.early[s.desired] {
		delete(s.early, s.desired)
		s.desired = next.Version
		s.tell(next)
	}
	if len(s.early) > 0 {
		time.AfterFunc(missedAfter, func() { s.missed(c.Before) })
	}
}

// missed cuts the session if it still waits for what leads to a version.
func (s *Session) missed(before int64) {
	s.mu.Lock()
	_, waiting := s.early[before]
	s.mu.Unlock()
	if waiting {
		s.cut("a change of its desired properties was missed")
	}
}

// knows is the version of the desired properties the device was told of.
func (s *Session) knows() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.desired
}

// findEvery bounds how long other processes are asked to wait at once: those
// that come meanwhile must be asked too.
const findEvery = 2 * time.Second

// find returns the process to which a device is connected that takes methods,
// waiting for it as long as the caller allows.
func (h *Hub) find(ctx context.Context, id string, wait time.Duration) (process string, err error) {
	if h.Others == nil {
		_, _, err := h.listening(ctx, id, wait)
		return h.Process, err
	}
	for deadline := time.Now().Add(wait); ; {
		turn := min(findEvery, max(0, time.Until(deadline)))
		process, err := h.findOnce(ctx, id, turn)
		if err == nil || ctx.Err() != nil || !time.Now().Before(deadline) {
			return process, err
		}
	}
}

// findOnce asks this process and the others at once.
func (h *Hub) findOnce(ctx context.Context, id string, wait time.Duration) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	elsewhere := make(chan string, 1)
	go func() { elsewhere <- h.Others.Find(ctx, id, wait) }()
	here := make(chan error, 1)
	go func() { _, _, err := h.listening(ctx, id, wait); here <- err }()
	select {
	case process := <-elsewhere:
		if process != "" {
			return process, nil
		}
		return h.Process, <-here
	case err := <-here:
		if err == nil {
			return h.Process, nil
		}
		if process := <-elsewhere; process != "" {
			return process, nil
		}
		return "", err
	}
}

// Takes reports whether a device is connected here and takes methods, waiting
// for it.
func (h *Hub) Takes(ctx context.Context, id string, wait time.Duration) error {
	_, _, err := h.listening(ctx, id, wait)
	return err
}

// recheckChunk is how many sessions are held against the database at once.
const recheckChunk = 500

// Recheck makes up for news that may not have arrived: every device is handed
// what waits for it, and one that does not know its desired properties is cut,
// so that it asks for them.
func (h *Hub) Recheck(ctx context.Context) error {
	h.mu.RLock()
	all := make([]*Session, 0, len(h.sessions))
	for _, s := range h.sessions {
		all = append(all, s)
	}
	h.mu.RUnlock()
	for len(all) > 0 {
		chunk := all[:min(recheckChunk, len(all))]
		all = all[len(chunk):]
		behind, err := h.behind(ctx, chunk)
		if err != nil {
			return err
		}
		for _, s := range chunk {
			s.pump()
		}
		if len(behind) > 0 {
			time.AfterFunc(missedAfter, func() { cutThoseBehind(behind) })
		}
	}
	return nil
}

// behind are the sessions whose devices do not know the version they should.
func (h *Hub) behind(ctx context.Context, sessions []*Session) (map[*Session]int64, error) {
	ids := make([]string, len(sessions))
	for i, s := range sessions {
		ids[i] = s.DeviceID
	}
	versions, err := h.Devices.DesiredVersions(ctx, ids)
	behind := map[*Session]int64{}
	for _, s := range sessions {
		if version := versions[s.DeviceID]; version > s.knows() {
			behind[s] = version
		}
	}
	return behind, err
}

// cutThoseBehind cuts sessions that have not caught up with a version; news of
// it may have been under way.
func cutThoseBehind(behind map[*Session]int64) {
	for s, version := range behind {
		if s.knows() < version {
			s.cut("a change of its desired properties was missed")
		}
	}
}

// newClaim is a claim that nobody else makes.
func newClaim() string { return rand.Text() }

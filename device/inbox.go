package device

import "sync"

const (
	maxCalls  = 1000 // handler calls by the hub that wait
	maxEvents = 250  // and by events, so that those find room when a handler hangs
)

// inbox calls handlers one after another, apart from whoever has something for
// them: a handler may well ask the hub, and the answer has to be read.
type inbox struct {
	mu     sync.Mutex
	calls  []func()
	wake   chan struct{}
	closed bool
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// put adds a call unless limit of them wait.
func (b *inbox) put(call func(), limit int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.calls) >= limit {
		return false
	}
	b.calls = append(b.calls, call)
	b.signal()
	return true
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// close lets run end after the calls that wait.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.signal()
}

// take returns the next call, nil when there is none.
func (b *inbox) take() (call func(), closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.calls) == 0 {
		return nil, b.closed
	}
	call, b.calls[0] = b.calls[0], nil
	b.calls = b.calls[1:]
	return call, false
}

// run makes the calls until the inbox is closed and empty.
func (b *inbox) run() {
	for {
		call, closed := b.take()
		switch {
		case call != nil:
			call()
		case closed:
			return
		default:
			<-b.wake
		}
	}
}

package tasks

import "sync"

// Bell wakes whoever waits, however many. The zero value is ready.
type Bell struct {
	// Also is called by each Ring, to wake those who wait elsewhere; nil is
	// nobody. It is set before the first Ring.
	Also func()

	mu   sync.Mutex
	wait chan struct{}
}

// Next returns a channel that the next Ring closes.
func (b *Bell) Next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wait == nil {
		b.wait = make(chan struct{})
	}
	return b.wait
}

// Ring wakes all who wait, here and elsewhere.
func (b *Bell) Ring() {
	b.Wake()
	if b.Also != nil {
		b.Also()
	}
}

// Wake wakes all who wait here.
func (b *Bell) Wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wait != nil {
		close(b.wait)
		b.wait = nil
	}
}

package trail

import (
	"sync"

	"github.com/slipway/slipway/internal/link"
)

// The most lines and spans that wait for control: some megabytes, and enough for
// a quiet process to be without control for hours.
const (
	maxLines = 4096
	maxSpans = 1024
)

// store holds what control has not taken yet. Of too much the oldest goes.
type store struct {
	mu    sync.Mutex
	lines queue[link.Line]
	spans queue[link.Span]
	lost  int64
}

func newStore() *store {
	return &store{lines: queue[link.Line]{most: maxLines}, spans: queue[link.Span]{most: maxSpans}}
}

// queue is bounded.
type queue[T any] struct {
	most  int
	items []T
}

// add drops the oldest eighth if there is no room, and tells how many that were.
func (q *queue[T]) add(items ...T) (dropped int64) {
	q.items = append(q.items, items...)
	if over := len(q.items) - q.most; over > 0 {
		over = min(len(q.items), over+q.most/8)
		q.items = append([]T(nil), q.items[over:]...)
		return int64(over)
	}
	return 0
}

func (q *queue[T]) take(most int) []T {
	n := min(most, len(q.items))
	taken := append([]T(nil), q.items[:n]...)
	q.items = append(q.items[:0], q.items[n:]...)
	return taken
}

func (s *store) line(l link.Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost += s.lines.add(l)
}

func (s *store) span(one link.Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost += s.spans.add(one)
}

// take takes the oldest, up to so many of each.
func (s *store) take(most int) link.Trail {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := link.Trail{Lines: s.lines.take(most), Spans: s.spans.take(most), Lost: s.lost}
	s.lost = 0
	return taken
}

// giveBack puts what was not taken before all that came meanwhile.
func (s *store) giveBack(t link.Trail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines, spans := s.lines.items, s.spans.items
	s.lines.items, s.spans.items = t.Lines, t.Spans
	s.lost += t.Lost + s.lines.add(lines...) + s.spans.add(spans...)
}

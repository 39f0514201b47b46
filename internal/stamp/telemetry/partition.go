package telemetry

import (
	"context"
	"errors"
	"hash/crc32"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
)

// Partition is the part of the telemetry a device's messages are in.
func Partition(device string) int {
	return int(crc32.ChecksumIEEE([]byte(device)) % link.Partitions)
}

// Bounds are the oldest and the newest message of a partition; Last is 0 where
// it has none.
type Bounds struct {
	First, Last uint64
	LastAt      time.Time
}

// partitions are the bounds as they were found last. All partitions are in one
// log, so that they are looked for in it, and only in what has come since.
type partitions struct {
	mu      sync.Mutex
	through uint64 // what has been looked at
	known   [link.Partitions]Bounds
}

// nearby is how many new messages are looked at one by one; of more, the newest
// of each device is.
const nearby = 10_000

// lookLapse bounds how long bounds are looked for: what is looked for may be
// dropped from the log meanwhile.
const lookLapse = 20 * time.Second

// PartitionBounds returns the bounds of a partition.
func (l *Logs) PartitionBounds(ctx context.Context, partition int) (Bounds, error) {
	state, err := l.telemetry.State(ctx)
	if err != nil {
		return Bounds{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookLapse)
	defer cancel()
	l.parts.mu.Lock()
	defer l.parts.mu.Unlock()
	if err := l.lookForNewest(ctx, state); err != nil {
		return Bounds{}, err
	}
	b := &l.parts.known[partition]
	if b.Last == 0 || b.Last < state.First {
		return Bounds{}, nil // none ever came, or none is kept any more
	}
	if b.First < max(1, state.First) {
		if err := l.lookForOldest(ctx, partition, max(1, state.First)); err != nil {
			return Bounds{}, err
		}
	}
	return *b, nil
}

func (p *partitions) saw(r bus.Record) {
	b := &p.known[Partition(deviceOf(telemetryPrefix, r.Subject))]
	if r.Sequence > b.Last {
		b.Last, b.LastAt = r.Sequence, r.Time.UTC()
	}
	p.through = max(p.through, r.Sequence)
}

// lookForNewest brings the ends of all partitions up to the log's.
func (l *Logs) lookForNewest(ctx context.Context, state bus.LogState) error {
	p, all := &l.parts, telemetryPrefix+">"
	switch {
	case state.Last <= p.through || state.First > state.Last:
		return nil // nothing has come, or nothing is kept
	case state.Last-p.through > nearby:
		if err := l.telemetry.LastOfEach(ctx, all, p.saw); err != nil {
			return err
		}
	default:
		if err := l.each(ctx, p.through, state.Last, func(r bus.Record) bool { p.saw(r); return true }); err != nil {
			return err
		}
	}
	p.through = max(p.through, state.Last)
	return nil
}

// lookForOldest finds where a partition begins, from a sequence on.
func (l *Logs) lookForOldest(ctx context.Context, partition int, from uint64) error {
	b := &l.parts.known[partition]
	return l.each(ctx, from-1, b.Last, func(r bus.Record) bool {
		found := Partition(deviceOf(telemetryPrefix, r.Subject)) == partition
		if found {
			b.First = r.Sequence
		}
		return !found
	})
}

// each hands on the messages in (after, to] for as long as more are wanted.
func (l *Logs) each(ctx context.Context, after, to uint64, wants func(bus.Record) bool) error {
	done := errors.New("done")
	err := l.telemetry.Follow(ctx, telemetryPrefix+">", after, func(r bus.Record) error {
		if r.Sequence > to || !wants(r) || r.Sequence == to {
			return done
		}
		return nil
	})
	if errors.Is(err, done) {
		return nil
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

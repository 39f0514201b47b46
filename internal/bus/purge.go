package bus

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Purge removes the records on a subject up to a sequence; 0 is all of them.
func (l *Log) Purge(ctx context.Context, subject string, upTo uint64) error {
	options := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSubject(l.prefix + subject)}
	if upTo > 0 {
		options = append(options, jetstream.WithPurgeSequence(upTo+1))
	}
	_, err := insist(ctx, l, func(ctx context.Context) (struct{}, error) { return struct{}{}, l.stream.Purge(ctx, options...) })
	if err != nil {
		return fmt.Errorf("purge %s: %w", l.name, err)
	}
	return nil
}

// Subjects counts the records of every subject that a pattern takes in.
func (l *Log) Subjects(ctx context.Context, pattern string) (map[string]uint64, error) {
	info, err := insist(ctx, l, func(ctx context.Context) (*jetstream.StreamInfo, error) {
		return l.stream.Info(ctx, jetstream.WithSubjectFilter(l.prefix+pattern))
	})
	if err != nil {
		return nil, fmt.Errorf("subjects of %s: %w", l.name, err)
	}
	counts := make(map[string]uint64, len(info.State.Subjects))
	for subject, n := range info.State.Subjects {
		counts[strings.TrimPrefix(subject, l.prefix)] = n
	}
	return counts, nil
}

// KeepFor sets how old records may become before the servers drop them; 0 has
// them dropped for want of room only.
func (l *Log) KeepFor(ctx context.Context, age time.Duration) error {
	info, err := insist(ctx, l, func(ctx context.Context) (*jetstream.StreamInfo, error) { return l.stream.Info(ctx) })
	if err != nil {
		return fmt.Errorf("configuration of %s: %w", l.name, err)
	}
	config := info.Config
	if config.MaxAge == age {
		return nil
	}
	config.MaxAge = age
	_, err = insist(ctx, l, func(ctx context.Context) (jetstream.Stream, error) { return l.js.UpdateStream(ctx, config) })
	if err != nil {
		return fmt.Errorf("configuration of %s: %w", l.name, err)
	}
	return nil
}

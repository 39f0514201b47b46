package monitor

import (
	"context"
	"log/slog"
)

// Quiet lets through what a part that we did not write warns of, and none of
// what it tells of its ordinary day.
func Quiet(logger *slog.Logger, part string) *slog.Logger {
	return slog.New(warnings{logger.Handler()}).With("part", part)
}

// warnings is a handler for warnings and worse.
type warnings struct{ slog.Handler }

// Enabled implements slog.Handler.
func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }

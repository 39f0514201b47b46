package delivery

import (
	"context"
	"encoding/json"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/endpoint"
)

// process has the route's program work on messages. Those that it drops are
// passed over; one that it cannot do is a dead letter, and found by giving it
// fewer at a time, so that it costs the others nothing but time.
func (w *worker) process(ctx context.Context, messages []endpoint.Message, o *outcome) ([]endpoint.Message, error) {
	if w.program == nil || len(messages) == 0 {
		return messages, nil
	}
	lines := make([][]byte, len(messages))
	for i, m := range messages {
		lines[i] = m.JSON
	}
	made, err := w.program.Run(ctx, lines)
	var out []endpoint.Message
	if err == nil {
		out, err = rebuild(messages, made)
	}
	switch {
	case err == nil:
		o.passed += uint64(len(messages) - len(out))
		return out, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case len(messages) == 1:
		w.health.refused(err, w.engine.Now())
		o.letters = append(o.letters, letter{messages[0], problem.Of(err).Error(), 1})
		return nil, nil
	}
	for _, half := range [][]endpoint.Message{messages[:len(messages)/2], messages[len(messages)/2:]} {
		some, err := w.process(ctx, half, o)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

// rebuild takes over what a program may change of messages, and nothing else:
// who sent one, and where it stands in the log, stays so.
func rebuild(messages []endpoint.Message, made [][]byte) (out []endpoint.Message, err error) {
	for i, line := range made {
		if line == nil {
			continue
		}
		var before, after link.LogRecord
		if err := json.Unmarshal(messages[i].JSON, &before); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(line, &after); err != nil {
			return nil, problem.New(problem.Invalid, "the processor wrote no message: %s", err)
		}
		before.Body, before.BodyBase64, before.Properties, before.ContentType = after.Body, after.BodyBase64, after.Properties, after.ContentType
		m, err := endpoint.Seal(before)
		if err != nil {
			return nil, problem.New(problem.Invalid, "the processor wrote no message: %s", err)
		}
		m.Taken = messages[i].Original()
		out = append(out, m)
	}
	return out, nil
}

package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
)

// DeadLetters returns a page of the messages that a route could not deliver
// on a stamp, oldest first.
func (f *Fleet) DeadLetters(ctx context.Context, stamp string, req link.DeadLetterPage) (link.DeadLetters, error) {
	if _, err := f.environments.Stamp(ctx, stamp); err != nil {
		return link.DeadLetters{}, err
	}
	req.Limit = limitOf(req.Limit)
	return stampAsk(ctx, f, stamp, link.DeadLetterList, req)
}

// ReplayDeadLetters has a route offer dead letters once more; no ids mean all.
func (f *Fleet) ReplayDeadLetters(ctx context.Context, actor access.Actor, stamp string, ref link.DeadLetterRef) (link.Purged, error) {
	return onStamp(ctx, f, actor, stamp, "deadLetter.replay", detailOfLetters(ref), link.DeadLetterReplay, ref)
}

// PurgeDeadLetters drops dead letters; no ids mean all.
func (f *Fleet) PurgeDeadLetters(ctx context.Context, actor access.Actor, stamp string, ref link.DeadLetterRef) (link.Purged, error) {
	return onStamp(ctx, f, actor, stamp, "deadLetter.purge", detailOfLetters(ref), link.DeadLetterPurge, ref)
}

func detailOfLetters(ref link.DeadLetterRef) string {
	if len(ref.IDs) == 0 {
		return "route " + ref.Route + ": all"
	}
	return fmt.Sprintf("route %s: %d named", ref.Route, len(ref.IDs))
}

// onStamp asks a stamp for a change and records that.
func onStamp[Req, Resp any](ctx context.Context, f *Fleet, actor access.Actor, stamp, action, detail string, call link.Call[Req, Resp], req Req) (resp Resp, err error) {
	if _, err := f.environments.Stamp(ctx, stamp); err != nil {
		return resp, err
	}
	err = f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: action, Object: "stamp/" + stamp, Environment: f.environmentOf(ctx, stamp), Detail: detail}, func(*audit.Entry) error {
		resp, err = stampAsk(ctx, f, stamp, call, req)
		return err
	})
	return resp, err
}

// Consumers lists the groups that read a stamp, with their lag.
func (f *Fleet) Consumers(ctx context.Context, stamp string) ([]link.Consumer, error) {
	if _, err := f.environments.Stamp(ctx, stamp); err != nil {
		return nil, err
	}
	all, err := stampAsk(ctx, f, stamp, link.ConsumerList, link.None{})
	return all.Items, err
}

// ReadConsumer returns what comes next for a group.
func (f *Fleet) ReadConsumer(ctx context.Context, stamp string, req link.ReadConsumer) (link.ConsumerPage, error) {
	if _, err := f.environments.Stamp(ctx, stamp); err != nil {
		return link.ConsumerPage{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, req.Wait+10*time.Second)
	defer cancel()
	return stampAsk(ctx, f, stamp, link.ConsumerRead, req)
}

// AckConsumer moves a group on. It is part of reading, so nobody records it.
func (f *Fleet) AckConsumer(ctx context.Context, stamp string, req link.AckConsumer) (link.Consumer, error) {
	if _, err := f.environments.Stamp(ctx, stamp); err != nil {
		return link.Consumer{}, err
	}
	return stampAsk(ctx, f, stamp, link.ConsumerAck, req)
}

// SeekConsumer sets where a group goes on.
func (f *Fleet) SeekConsumer(ctx context.Context, actor access.Actor, stamp string, req link.SeekConsumer) (link.Consumer, error) {
	return onStamp(ctx, f, actor, stamp, "consumer.seek", req.Group, link.ConsumerSeek, req)
}

// DeleteConsumer forgets a group.
func (f *Fleet) DeleteConsumer(ctx context.Context, actor access.Actor, stamp, group string) error {
	_, err := onStamp(ctx, f, actor, stamp, "consumer.delete", group, link.ConsumerDelete, link.ConsumerRef{Group: group})
	return err
}

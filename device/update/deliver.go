package update

import (
	"context"
	"encoding/json"
)

// deliver has the hub told, one report after the other, each until it is
// acknowledged, and how far a download is when there is nothing else.
func (u *Updater) deliver(ctx context.Context) {
	told := -1
	for ctx.Err() == nil {
		u.mu.Lock()
		s, progress, connected := u.state, u.progress, u.told
		u.mu.Unlock()
		var err error
		switch {
		case !connected: // nobody is known to be told
		case len(s.Outbox) > 0:
			first := s.Outbox[0]
			if err = u.send(ctx, first.Report); err == nil {
				u.hear(event{kind: onDelivered, sequence: first.Sequence})
				continue
			}
		case s.Phase == Downloading && progress != told && progress > 0:
			r := s.report(ReportDownloading, u.facts)
			r.Progress = progress
			if err = u.send(ctx, r); err == nil {
				told = progress
				continue
			}
		}
		if err != nil && ctx.Err() == nil {
			u.logger.Debug("not reported yet", "error", err)
			u.pause(ctx, u.config.Policy.Base)
			continue
		}
		select {
		case <-ctx.Done():
		case <-u.report:
		}
	}
}

func (u *Updater) send(ctx context.Context, r Report) error {
	if u.damage != nil && r.Error == "" {
		r.Error = u.damage.Error()
	}
	patch, err := json.Marshal(r.Patch())
	if err != nil {
		return err
	}
	_, err = u.hub.Report(ctx, patch)
	return err
}

package registration

import (
	"context"
	"fmt"
	"math"

	"golang.org/x/time/rate"

	"github.com/slipway/slipway/internal/provisioning/allocation"
	"github.com/slipway/slipway/internal/sqldb"
)

// mayBegin is how many of a move's pending devices may begin now: as many as
// its pace allows and, where devices only change stamps, as there are places
// for. What holds it up is noted with the move.
func (s *Service) mayBegin(ctx context.Context, m open, pending int) (int, error) {
	may := pending
	if m.pace > 0 {
		kept, _ := s.paces.LoadOrStore(m.number, rate.NewLimiter(rate.Limit(m.pace), max(1, int(m.pace))))
		limiter := kept.(*rate.Limiter)
		now := s.now()
		may = min(may, int(math.Floor(limiter.TokensAt(now))))
		if may > 0 {
			limiter.AllowN(now, may)
		}
	}
	if m.from == "" || may == 0 {
		return may, nil
	}
	room, err := s.room(ctx, m)
	if err != nil {
		return 0, err
	}
	why := ""
	if room < may {
		may = max(room, 0)
		why = fmt.Sprintf("%d more devices could be taken by the open stamps of environment %s; the others stay where they are until there is room", may, m.target)
	}
	return may, s.hold(ctx, m.number, why)
}

// room is how many places the open stamps that a move's devices may go to have
// beyond those for which devices wait already.
func (s *Service) room(ctx context.Context, m open) (int, error) {
	places, err := taken(ctx, s.db)
	if err != nil {
		return 0, err
	}
	var stamps []allocation.Candidate
	for _, stamp := range s.directory.Current().In(m.target) {
		stamps = append(stamps, allocation.Candidate{Stamp: stamp, Taken: places[stamp.Name]})
	}
	coming, _, err := sqldb.Row(ctx, s.db, scanInt, `SELECT count(*) FROM registration WHERE environment = ? AND (phase = 'waiting' OR phase = 'removing')`, m.target)
	return allocation.Room(stamps, m.target, m.from, int(coming)), err
}

// hold notes what a move waits for.
func (s *Service) hold(ctx context.Context, move int64, why string) error {
	known, _, err := sqldb.Row(ctx, s.db, scanText, "SELECT problem FROM move WHERE number = ?", move)
	if err != nil || known == why {
		return err
	}
	return s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE move SET problem = ? WHERE number = ?", why, move)
		return err
	})
}

package control

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
)

// AuditWhole exports the audit log as who distrusts it does, verifies the
// export, and tells to which checkpoint it comes.
func (p *Plane) AuditWhole(ctx context.Context) (found string, err error) {
	exporting, err := p.audit.Export(ctx, "drill")
	if err != nil {
		return "", err
	}
	from, to := io.Pipe()
	go func() { to.CloseWithError(exporting.Write(ctx, to)) }()
	report, err := audit.Verify(from, audit.Trust{})
	if err = errors.Join(err, from.Close()); err != nil {
		return "", err
	}
	if !report.Verified() {
		return "", fmt.Errorf("entry %d: %s", report.Findings[0].Sequence, report.Findings[0].Problem)
	}
	return fmt.Sprintf("%d entries, up to the checkpoint of %d with root %s", report.Entries, report.Size, report.Root), nil
}

// NothingToDo asks each environment to take the release that it runs: where
// nothing was lost there is nothing to do, and that is said.
func (p *Plane) NothingToDo(ctx context.Context) (asked int, err error) {
	lanes, err := p.promotions.Board(ctx)
	if err != nil {
		return 0, err
	}
	for _, lane := range lanes {
		if lane.Current == nil || lane.Running != nil || lane.Waiting != nil {
			continue
		}
		asked++
		got, err := p.promotions.Start(ctx, access.Actor{Name: "drill"}, lane.Environment, lane.Current.Release, "a drill")
		switch {
		case err == nil:
			return asked, fmt.Errorf("%s would take release %s once more, as %s", lane.Environment, lane.Current.Release, got.ID)
		case !problem.Is(err, problem.Conflict):
			return asked, err
		}
	}
	return asked, nil
}

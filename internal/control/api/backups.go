package api

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/control/backup"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

type listBackups struct {
	Plane string `query:"plane" maxLength:"100" doc:"control, provisioning, or stamp.NAME"`
	After string `query:"after" maxLength:"40" doc:"Those begun before this time"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000"`
}

type createBackups struct {
	Body struct {
		Planes []string `json:"planes,omitempty" maxItems:"1000" doc:"control, provisioning, stamp.NAME; all where none is named"`
		Anew   bool     `json:"anew,omitempty" doc:"Use nothing that is in the vault already, because some of it is damaged"`
	}
}

type pruneBackups struct {
	Body struct {
		DryRun bool `json:"dryRun,omitempty" doc:"Only tell which"`
	}
}

// BackupRef is a backup in the path.
type BackupRef struct {
	ID string `path:"id" maxLength:"140"`
}

type setPlan struct{ Body backup.Schedule }

type claimDrill struct {
	Body struct {
		Host string `json:"host" minLength:"1" maxLength:"253" doc:"Where it will run"`
	}
}

type advanceDrill struct {
	IDRef
	Body struct {
		Phase string `json:"phase" maxLength:"200"`
	}
}

type concludeDrill struct {
	IDRef
	Body link.DrillEvidence
}

// backups registers backups and drills.
func (a *api) backups() {
	route(a, "GET", "/api/v1/backups", "listBackups", "Backups, newest first", func(ctx context.Context, in *listBackups) (*body[list[backup.Backup]], error) {
		before, err := beforeOf(in.After)
		if err != nil {
			return nil, err
		}
		limit := pageOf(in.Limit)
		all, err := a.Backups.List(ctx, in.Plane, before, limit)
		next := ""
		if len(all) == limit {
			next = all[limit-1].BegunAt.Format(time.RFC3339Nano)
		}
		return listOf(all, next), err
	})
	route(a, "POST", "/api/v1/backups", "createBackups", "Back planes up now", func(ctx context.Context, in *createBackups) (*body[list[backup.Backup]], error) {
		all, err := a.Backups.Ask(ctx, actorOf(ctx), in.Body.Planes, in.Body.Anew)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/backups/{id}", "getBackup", "A backup", func(ctx context.Context, in *BackupRef) (*body[backup.Backup], error) {
		one, err := a.Backups.Get(ctx, in.ID)
		return &body[backup.Backup]{one}, err
	})
	route(a, "POST", "/api/v1/backups/{id}/verify", "verifyBackup", "Begin to read every chunk of a backup", func(ctx context.Context, in *BackupRef) (*body[backup.Backup], error) {
		one, err := a.Backups.Verify(ctx, actorOf(ctx), in.ID)
		return &body[backup.Backup]{one}, err
	})
	route(a, "POST", "/api/v1/prune-backups", "pruneBackups", "Let go of backups that need not be kept", func(ctx context.Context, in *pruneBackups) (*body[backup.Pruned], error) {
		gone, err := a.Backups.Prune(ctx, actorOf(ctx), in.Body.DryRun)
		return &body[backup.Pruned]{gone}, err
	})
	route(a, "GET", "/api/v1/backup-status", "backupStatus", "How every plane stands with its backups, and where they are kept", func(ctx context.Context, _ *struct{}) (*body[backup.Overview], error) {
		o, err := a.Backups.Overview(ctx)
		return &body[backup.Overview]{o}, err
	})
	route(a, "GET", "/api/v1/backup-schedule", "getBackupSchedule", "How often backups are taken, which are kept, what is promised", func(ctx context.Context, _ *struct{}) (*body[backup.Schedule], error) {
		p, err := a.Backups.Schedule(ctx)
		return &body[backup.Schedule]{p}, err
	})
	route(a, "PUT", "/api/v1/backup-schedule", "setBackupSchedule", "Change that", func(ctx context.Context, in *setPlan) (*body[backup.Schedule], error) {
		p, err := a.Backups.SetSchedule(ctx, actorOf(ctx), in.Body)
		return &body[backup.Schedule]{p}, err
	})
	a.drills()
}

func (a *api) drills() {
	route(a, "GET", "/api/v1/drills", "listDrills", "Drills, newest first", func(ctx context.Context, in *listBackups) (*body[list[backup.Drill]], error) {
		before, err := beforeOf(in.After)
		if err != nil {
			return nil, err
		}
		limit := pageOf(in.Limit)
		all, err := a.Backups.Drills(ctx, before, limit)
		next := ""
		if len(all) == limit {
			next = all[limit-1].CreatedAt.Format(time.RFC3339Nano)
		}
		return listOf(all, next), err
	})
	route(a, "POST", "/api/v1/drills", "askDrill", "Have backups tried now, by a host that recovers", func(ctx context.Context, _ *struct{}) (*body[backup.Drill], error) {
		d, err := a.Backups.AskDrill(ctx, actorOf(ctx))
		return &body[backup.Drill]{d}, err
	})
	route(a, "GET", "/api/v1/drills/{id}", "getDrill", "A drill with its evidence", func(ctx context.Context, in *IDRef) (*body[backup.Drill], error) {
		d, err := a.Backups.Drill(ctx, in.ID)
		return &body[backup.Drill]{d}, err
	})
	route(a, "POST", "/api/v1/claim-drill", "claimDrill", "Take up a drill that is due, on a host that recovers", func(ctx context.Context, in *claimDrill) (*body[backup.Drill], error) {
		d, err := a.Backups.Claim(ctx, actorOf(ctx), in.Body.Host)
		return &body[backup.Drill]{d}, err
	})
	route(a, "POST", "/api/v1/drills/{id}/advance", "advanceDrill", "Tell how far a drill is", func(ctx context.Context, in *advanceDrill) (*struct{}, error) {
		return nil, a.Backups.Advance(ctx, actorOf(ctx), in.ID, in.Body.Phase)
	})
	route(a, "POST", "/api/v1/drills/{id}/conclude", "concludeDrill", "Hand in the evidence of a drill, which is judged and signed", func(ctx context.Context, in *concludeDrill) (*body[backup.Drill], error) {
		d, err := a.Backups.Conclude(ctx, actorOf(ctx), in.ID, in.Body)
		return &body[backup.Drill]{d}, err
	})
}

// beforeOf reads where a list goes on.
func beforeOf(after string) (time.Time, error) {
	if after == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, after)
	if err != nil {
		return at, problem.New(problem.Invalid, "a time reads 2026-12-20T18:00:00Z, not %q", after).At("after")
	}
	return at, nil
}

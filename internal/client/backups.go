package client

import (
	"context"

	"github.com/slipway/slipway/internal/control/backup"
	"github.com/slipway/slipway/internal/link"
)

// Backups returns the newest backups, of one plane if one is named.
func (c *Client) Backups(ctx context.Context, plane string) ([]backup.Backup, error) {
	page, err := do[Page[backup.Backup]](ctx, c, request{method: "GET", path: path("backups"), query: named("plane", plane)})
	return page.Items, err
}

// CreateBackups has planes backed up now: those named, or all.
func (c *Client) CreateBackups(ctx context.Context, planes []string, anew bool) ([]backup.Backup, error) {
	body := map[string]any{"anew": anew}
	if len(planes) > 0 {
		body["planes"] = planes
	}
	page, err := do[Page[backup.Backup]](ctx, c, request{method: "POST", path: path("backups"), body: body})
	return page.Items, err
}

// Backup returns a backup.
func (c *Client) Backup(ctx context.Context, id string) (backup.Backup, error) {
	return do[backup.Backup](ctx, c, request{method: "GET", path: path("backups", id)})
}

// VerifyBackup begins to read every chunk of a backup.
func (c *Client) VerifyBackup(ctx context.Context, id string) (backup.Backup, error) {
	return do[backup.Backup](ctx, c, request{method: "POST", path: path("backups", id, "verify")})
}

// PruneBackups lets go of backups that need not be kept.
func (c *Client) PruneBackups(ctx context.Context, dryRun bool) (backup.Pruned, error) {
	return do[backup.Pruned](ctx, c, request{method: "POST", path: path("prune-backups"), body: map[string]bool{"dryRun": dryRun}})
}

// BackupStatus tells how every plane stands with its backups.
func (c *Client) BackupStatus(ctx context.Context) (backup.Overview, error) {
	return do[backup.Overview](ctx, c, request{method: "GET", path: path("backup-status")})
}

// SetBackupSchedule changes how often backups are taken and which are kept.
func (c *Client) SetBackupSchedule(ctx context.Context, p backup.Schedule) (backup.Schedule, error) {
	return do[backup.Schedule](ctx, c, request{method: "PUT", path: path("backup-schedule"), body: p})
}

// Drills returns the newest drills.
func (c *Client) Drills(ctx context.Context) ([]backup.Drill, error) {
	page, err := do[Page[backup.Drill]](ctx, c, request{method: "GET", path: path("drills")})
	return page.Items, err
}

// Drill returns a drill with its evidence.
func (c *Client) Drill(ctx context.Context, id string) (backup.Drill, error) {
	return do[backup.Drill](ctx, c, request{method: "GET", path: path("drills", id)})
}

// AskDrill has backups tried now, by a host that recovers.
func (c *Client) AskDrill(ctx context.Context) (backup.Drill, error) {
	return do[backup.Drill](ctx, c, request{method: "POST", path: path("drills")})
}

// ClaimDrill takes up a drill that is due.
func (c *Client) ClaimDrill(ctx context.Context, host string) (backup.Drill, error) {
	return do[backup.Drill](ctx, c, request{method: "POST", path: path("claim-drill"), body: map[string]string{"host": host}})
}

// AdvanceDrill tells how far a drill is.
func (c *Client) AdvanceDrill(ctx context.Context, id, phase string) error {
	_, err := do[struct{}](ctx, c, request{method: "POST", path: path("drills", id, "advance"), body: map[string]string{"phase": phase}})
	return err
}

// ConcludeDrill hands in the evidence of a drill.
func (c *Client) ConcludeDrill(ctx context.Context, id string, e link.DrillEvidence) (backup.Drill, error) {
	return do[backup.Drill](ctx, c, request{method: "POST", path: path("drills", id, "conclude"), body: e})
}

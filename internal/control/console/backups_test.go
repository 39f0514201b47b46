package console

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/backup"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

var _ Backups = (*backup.Backups)(nil)

// backupsOf are the backups of a world that has devices, and none of one that
// has not.
type backupsOf struct{ *world }

func (b backupsOf) populated() bool { return len(b.levels) > 0 }

func sampleBackup() backup.Backup {
	at, ended := noon.Add(-9*time.Minute), noon.Add(-8*time.Minute)
	return backup.Backup{
		ID: "20261220T115100Z.stamp.production-eu", Peer: "stamp.production-eu", Environment: "production", Region: "eu-1", Vault: "home", State: backup.Kept, BegunAt: at, TakenAt: &at, EndedAt: &ended,
		Engine: "sqlite", Schema: 40, Rows: map[string]int64{"device": 1200}, Streams: []link.BackupStream{{Name: "TELEMETRY", Messages: 41000, First: 1, Last: 41000}}, Files: 9, Bytes: 80 << 20, Stored: 3 << 20, Size: 40 << 20, Chunks: 300,
		Verified: &backup.Verified{At: at, EndedAt: &ended, Chunks: 300},
	}
}

func sampleDrill() backup.Drill {
	ended := noon.Add(-time.Hour)
	return backup.Drill{
		ID: "drill-20261220T105500Z", State: backup.Ended, Verdict: link.Fail, Reasons: []string{"rows (newest, stamp.production-eu): the table device has 1199 rows of 1200"}, Trigger: "schedule", Host: "recovery-1", CreatedAt: ended, EndedAt: &ended,
		Evidence: &link.DrillEvidence{Trials: []link.Trial{{
			Of: "newest", RTOSeconds: 41.2, RPOSeconds: 540, Isolation: "kernel", Destroyed: true, Phases: []link.Timing{{Name: "restore", Milliseconds: 38000}},
			Checks: []link.DrillCheck{{Name: "device", Plane: "stamp.production-eu", Verdict: link.Pass, Detail: "pump-0001 was let in"}}, Restored: []link.Restored{{Backup: sampleBackup().ID, Digest: "ab12"}},
		}}, Negative: link.DrillCheck{Verdict: link.Pass, Detail: "the chunk was changed"}}, Signature: "c2lnbmVk", Key: "0123456789abcdef",
	}
}

func (b backupsOf) Overview(context.Context) (o backup.Overview, err error) {
	o.Schedule = backup.Schedule{EverySeconds: 900}
	if !b.populated() {
		return o, nil
	}
	one, d := sampleBackup(), sampleDrill()
	o = backup.Overview{Configured: true, Signer: "slipway-signer:abc", Vaults: []backup.VaultInfo{{Name: "home", At: "https://s3.example.com/backups", Regions: []string{"eu-1"}, LockDays: 30, OffHost: true}}, Schedule: o.Schedule, DrillLate: true, Drill: &d}
	oldest := noon.AddDate(0, -2, 0)
	o.Planes = []backup.PlaneStanding{{Peer: one.Peer, Region: "eu-1", Vault: "home", Newest: &one, Last: &one, Kept: 110, Size: one.Size, Oldest: &oldest}, {Peer: "control", Late: true, Last: &backup.Backup{ID: "20261220T115500Z.control", State: backup.Failed, Failure: "the store of objects cannot be reached"}}}
	return o, nil
}

func (b backupsOf) List(context.Context, string, time.Time, int) ([]backup.Backup, error) {
	if !b.populated() {
		return nil, nil
	}
	return []backup.Backup{sampleBackup()}, nil
}

func (b backupsOf) Days(_ context.Context, days int) ([]backup.Day, error) {
	all := make([]backup.Day, days)
	for i := range all {
		all[i] = backup.Day{Day: noon.Truncate(24*time.Hour).AddDate(0, 0, i+1-days), Kept: i % 3 * 40, Failed: i % 4 / 3 * 2, Stored: int64(i) << 20, Drills: i % 2, Passed: i % 5 % 2 * (i % 2)}
	}
	return all, nil
}

func (b backupsOf) Get(_ context.Context, id string) (backup.Backup, error) {
	if id != sampleBackup().ID {
		return backup.Backup{}, problem.New(problem.NotFound, "there is no backup %q", id)
	}
	return sampleBackup(), nil
}

func (b backupsOf) Drills(context.Context, time.Time, int) ([]backup.Drill, error) {
	if !b.populated() {
		return nil, nil
	}
	return []backup.Drill{sampleDrill()}, nil
}

func (b backupsOf) Drill(context.Context, string) (backup.Drill, error) { return sampleDrill(), nil }

func (b backupsOf) Ask(_ context.Context, _ access.Actor, only []string, _ bool) ([]backup.Backup, error) {
	b.said = append(b.said, "back up")
	return nil, nil
}

func (b backupsOf) Verify(_ context.Context, _ access.Actor, id string) (backup.Backup, error) {
	b.said = append(b.said, "verify "+id)
	return sampleBackup(), nil
}

func (b backupsOf) AskDrill(context.Context, access.Actor) (backup.Drill, error) {
	b.said = append(b.said, "drill")
	return sampleDrill(), nil
}

func init() {
	pages = append(pages, "/backups", "/backups/"+sampleBackup().ID, "/drills/"+sampleDrill().ID)
}

func TestBackupsAreShownAndAskedFor(t *testing.T) {
	nothing := asBrowser(t, newWorld()).get("/backups", http.StatusOK)
	checkPage(t, "/backups", nothing, true)
	has(t, nothing, "Nothing is backed up")
	w := populated()
	browser := asBrowser(t, w)
	has(t, browser.get("/backups", http.StatusOK), "no drill has passed lately", "stamp.production-eu", "late", "the store of objects cannot be reached", "locked for 30 days", "41.2 s", `class="good"`)
	has(t, browser.get("/backups/"+sampleBackup().ID, http.StatusOK), "Every chunk is what it was", "TELEMETRY", "1200")
	has(t, browser.get("/drills/"+sampleDrill().ID, http.StatusOK), "1199 rows of 1200", "pump-0001 was let in", "destroyed", "the kernel")
	browser.get("/backups/nowhere", http.StatusNotFound)
	for path, said := range map[string]string{"/backups": "back up", "/drills": "drill", "/backups/" + sampleBackup().ID + "/verify": "verify " + sampleBackup().ID} {
		w.said = nil
		browser.post(path, http.StatusSeeOther, filled())
		if len(w.said) != 1 || w.said[0] != said {
			t.Errorf("POST %s: %q", path, w.said)
		}
	}
}

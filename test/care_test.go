package test

import (
	"archive/zip"
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/internal/control/dossier"
	"github.com/slipway/slipway/internal/control/erasure"
)

// TestADeviceEndsAndIsForgotten walks the end of a device's life: what is kept
// of it is handed out, it is held, taken out of use and wiped, cannot come back
// until that is taken back, and is erased on every plane, through a kill of
// the server, with a proof that is verified without it.
func TestADeviceEndsAndIsForgotten(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.enrol()
	wiped := make(chan string, 10)
	c, err := device.New(device.Config{
		Provisioning: in.provisioningAddress(), IDScope: in.ready.Provisioning.IDScope, RegistrationID: "pump-17", Key: device.DeriveKey(groupKey, "pump-17"),
		CA: in.pool, Store: device.FileStore(t.TempDir() + "/state.json"),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.OnWipe(func(_ context.Context, decommission string) error {
		wiped <- decommission
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer cancel()
	limited, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if err := c.Send(limited, device.Message{Body: []byte(`{"n":1}`), ContentType: "application/json"}); err != nil {
		t.Fatal(err)
	}
	if _, err := in.register("pump-18"); err != nil { // another, of which nothing may go
		t.Fatal(err)
	}
	in.must("device", "twin", "set", "pump-17", "tags.owner=Ann")

	archive := filepath.Join(t.TempDir(), "pump-17.zip")
	in.must("dossier", "--device", "pump-17", "--reason", "request 1207", "--output", archive)
	m, all := readDossier(t, archive)
	for _, says := range []string{`"owner":"Ann"`, `"body":{"n":1}`, `"step":"assigned"`, `"action":"twin.patch"`} {
		if !strings.Contains(all, says) {
			t.Errorf("the dossier does not say %s", says)
		}
	}
	if !m.Complete || strings.Contains(all, "pump-18") {
		t.Errorf("the dossier is %+v", m)
	}

	in.must("legal-hold", "place", "--device", "pump-17", "--reason", "case 7")
	if out, err := in.run("device", "decommission", "pump-17", "--reason", "sold"); err == nil || !strings.Contains(out, "legal-hold-1") {
		t.Errorf("in spite of a hold: %v %s", err, out)
	}
	in.must("legal-hold", "lift", "legal-hold-1", "--reason", "closed")

	if out := in.must("device", "decommission", "pump-17", "--reason", "sold", "--wait", "--timeout", "2m"); !strings.Contains(out, "decommissioned") || !strings.Contains(out, "wiped") {
		t.Errorf("decommissioned: %s", out)
	}
	if got := <-wiped; got != "decommission-1" {
		t.Errorf("it was wiped for %s", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if hub, err := in.register("pump-17"); err == nil && hub != "" {
		t.Errorf("it came back, to %s", hub)
	}
	in.must("device", "recommission", "pump-17", "--reason", "a mistake")
	eventually(t, "it may register again", 30*time.Second, func() bool {
		hub, err := in.register("pump-17")
		return err == nil && hub != ""
	})

	began := in.must("erasure", "start", "--device", "pump-17", "--reason", "request 1207")
	in.kill(syscall.SIGKILL)
	in.launch()
	if !strings.Contains(began, "erasure-1") {
		t.Fatalf("began: %s", began)
	}
	eventually(t, "it is erased", time.Minute, func() bool {
		e, err := in.api.Erasure(t.Context(), "erasure-1")
		return err == nil && e.State == erasure.Done
	})
	proof := filepath.Join(t.TempDir(), "erased.json")
	if err := os.WriteFile(proof, []byte(in.must("erasure", "proof", "erasure-1")), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "audit.pub")
	if err := os.WriteFile(key, []byte(in.must("audit", "checkpoint", "--public-key")), 0o600); err != nil {
		t.Fatal(err)
	}
	in.must("audit", "verify")
	if out, err := in.run("erasure", "start", "--device", "pump-17", "--reason", "again"); err == nil {
		t.Errorf("something is left of it: %s", out)
	}
	if hub, err := in.register("pump-17"); err == nil && hub != "" {
		t.Errorf("the erased device came back, to %s", hub)
	}
	if out := in.must("device", "show", "pump-18"); !strings.Contains(out, "pump-18") {
		t.Errorf("of the other device: %s", out)
	}
	in.checkForgotten("pump-17")
	if out := in.must("erasure", "verify", proof, "--key", key, "--subject", "pump-17"); !strings.Contains(out, "telemetry") {
		t.Errorf("verified: %s", out)
	}
	if out, err := in.run("erasure", "verify", proof, "--key", key, "--subject", "pump-18"); err == nil {
		t.Errorf("it is about another, too: %s", out)
	}
}

// checkForgotten looks for a name in every row of every plane.
func (in *installation) checkForgotten(name string) {
	in.t.Helper()
	in.kill(stopSignal)
	looked := 0
	err := filepath.WalkDir(filepath.Join(in.dir, "data"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && slices.Contains([]string{"control.db", "provisioning.db", "stamp.db"}, entry.Name()) {
			err = in.checkRows(path, name)
			looked++
		}
		return err
	})
	if err != nil || looked < 4 {
		in.t.Fatalf("%d databases were looked through: %v", looked, err)
	}
	in.launch()
}

func readDossier(t *testing.T, name string) (m dossier.Manifest, all string) {
	t.Helper()
	archive, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	var text strings.Builder
	for _, file := range archive.File {
		r, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if file.Name == "manifest.json" {
			if err := json.Unmarshal(content, &m); err != nil {
				t.Fatal(err)
			}
			continue
		}
		text.Write(content)
	}
	return m, text.String()
}

// checkRows looks for a name in every column of every table of a database.
func (in *installation) checkRows(file, name string) error {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		return err
	}
	defer db.Close()
	tables, err := texts(db, "SELECT name FROM sqlite_master WHERE type = 'table'")
	if err != nil {
		return err
	}
	for _, table := range tables {
		columns, err := texts(db, "SELECT name FROM pragma_table_info('"+table+"')")
		if err != nil {
			return err
		}
		for _, column := range columns {
			var n int
			query := `SELECT count(*) FROM "` + table + `" WHERE CAST("` + column + `" AS TEXT) LIKE ?`
			if err := db.QueryRow(query, "%"+name+"%").Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				in.t.Errorf("%s still names %s in %d rows of %s.%s", filepath.Base(file), name, n, table, column)
			}
		}
	}
	return nil
}

func texts(db *sql.DB, query string) (all []string, err error) {
	rows, err := db.Query(query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

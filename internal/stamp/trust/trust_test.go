package trust

import (
	"testing"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/migrations"
)

func TestTheNewestWordCounts(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	trust, err := Open(t.Context(), db)
	if err != nil || len(trust.DER()) != 0 {
		t.Fatalf("new: %q, %v", trust.DER(), err)
	}
	changes := 0
	trust.Changed = func() { changes++ }
	for _, told := range []link.TrustedAuthorities{{Version: 2, DER: []byte("b")}, {Version: 1, DER: []byte("a")}, {Version: 2, DER: []byte("c")}, {Version: 3}, {Version: 4, DER: []byte("d")}} {
		if _, err := trust.Put(t.Context(), told); err != nil {
			t.Fatal(err)
		}
		if want := map[int64]string{1: "b", 2: "b", 3: "", 4: "d"}[told.Version]; string(trust.DER()) != want {
			t.Errorf("after %d: %q, not %q", told.Version, trust.DER(), want)
		}
	}
	if changes != 3 {
		t.Errorf("%d changes were told, not 3", changes)
	}
	if again, err := Open(t.Context(), db); err != nil || string(again.DER()) != "d" {
		t.Errorf("after a restart: %q, %v", again.DER(), err)
	}
}

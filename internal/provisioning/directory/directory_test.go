package directory

import (
	"testing"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/provisioning/migrations"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

func document(version int64, stamps ...string) link.Directory {
	d := link.Directory{Version: version, Environments: []link.Environment{{Name: "test"}, {Name: "production"}}}
	for _, name := range stamps {
		environment := "test"
		if name[0] == 'p' {
			environment = "production"
		}
		d.Stamps = append(d.Stamps, link.Stamp{Name: name, Environment: environment})
	}
	return d
}

func TestOnlyNewerDirectoriesCountAndAreKept(t *testing.T) {
	file := sqldbtest.At(t)
	reopen := func() (*Store, *sqldb.DB) {
		db, err := sqldb.Open(t.Context(), file, migrations.Files)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		return s, db
	}
	s, db := reopen()
	for _, d := range []link.Directory{document(2, "t1"), document(5, "t1", "p2", "p1"), document(4), document(5)} {
		if err := s.Put(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		current := s.Current()
		inside, all := current.In("production"), current.All()
		if current.Version() != 5 || len(inside) != 2 || inside[0].Name != "p1" || len(all) != 3 || all[2].Name != "t1" {
			t.Errorf("version %d: %v of %v", current.Version(), inside, all)
		}
		if all := current.Environments(); len(all) != 2 || all[0].Name != "production" {
			t.Errorf("environments %v", all)
		}
		if _, known := current.Stamp("t2"); known {
			t.Error("knows a stamp that is not there")
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		s, db = reopen()
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

package console

import (
	"net/http"
	"strconv"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
)

var auditPage = newPage("audit.html")

const auditRows = 100

type auditView struct {
	base
	Entries []audit.Entry
	Newest  bool
	Before  int64 // where older entries begin; 0: there are none
}

func (c *console) auditLog(w http.ResponseWriter, r *http.Request, s access.Session) error {
	before, err := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64)
	if err != nil || before < 0 {
		before = 0 // begins at the newest
	}
	view := auditView{base: inside(r, s, "audit", "Audit"), Newest: before == 0}
	if view.Entries, err = c.Audit.List(r.Context(), before, auditRows+1); err != nil {
		return err
	}
	if len(view.Entries) > auditRows {
		view.Entries = view.Entries[:auditRows]
		view.Before = view.Entries[auditRows-1].Sequence
	}
	return show(w, r, http.StatusOK, auditPage, "", view)
}

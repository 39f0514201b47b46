package console

import (
	"fmt"
	"net/http"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/backup"
)

var (
	backupsPage = newPage("backups.html")
	backupPage  = newPage("backup.html")
	drillPage   = newPage("drill.html")
)

// backupsView is how planes stand with their backups, and what the last weeks
// saw.
type backupsView struct {
	base
	backup.Overview
	Weeks  [][]backupDay
	Recent []backup.Backup
	Drills []backup.Drill
}

// backupDay is a day of the calendar.
type backupDay struct {
	backup.Day
	Kind  string // none, good, some, bad
	Title string
}

// The calendar shows so many weeks, and the lists so many rows.
const (
	shownWeeks  = 8
	shownRows   = 25
	shownDrills = 10
)

// calendar lays days out in weeks that end today.
func calendar(days []backup.Day) (weeks [][]backupDay) {
	for i, d := range days {
		if i%7 == 0 {
			weeks = append(weeks, nil)
		}
		shown := backupDay{d, "none", fmt.Sprintf("%s: %d kept, %d failed, %d drills, %d passed", d.Day.Format(time.DateOnly), d.Kept, d.Failed, d.Drills, d.Passed)}
		switch {
		case d.Kept > 0 && d.Failed == 0 && d.Passed == d.Drills:
			shown.Kind = "good"
		case d.Kept > 0:
			shown.Kind = "some"
		case d.Failed > 0:
			shown.Kind = "bad"
		}
		weeks[len(weeks)-1] = append(weeks[len(weeks)-1], shown)
	}
	return weeks
}

func (c *console) backups(w http.ResponseWriter, r *http.Request, s access.Session) error {
	view := backupsView{base: inside(r, s, "backups", "Backups")}
	var err error
	if view.Overview, err = c.Backups.Overview(r.Context()); err != nil {
		return err
	}
	days, err := c.Backups.Days(r.Context(), shownWeeks*7)
	if err != nil {
		return err
	}
	view.Weeks = calendar(days)
	if view.Recent, err = c.Backups.List(r.Context(), "", time.Time{}, shownRows); err != nil {
		return err
	}
	if view.Drills, err = c.Backups.Drills(r.Context(), time.Time{}, shownDrills); err != nil {
		return err
	}
	return show(w, r, http.StatusOK, backupsPage, "", view)
}

type backupView struct {
	base
	backup.Backup
}

func (c *console) backup(w http.ResponseWriter, r *http.Request, s access.Session) error {
	one, err := c.Backups.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, backupPage, "", backupView{inside(r, s, "backups", one.ID), one})
}

type drillView struct {
	base
	backup.Drill
}

func (c *console) drill(w http.ResponseWriter, r *http.Request, s access.Session) error {
	d, err := c.Backups.Drill(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, drillPage, "", drillView{inside(r, s, "backups", d.ID), d})
}

func (c *console) createBackups(w http.ResponseWriter, r *http.Request, s access.Session) error {
	var only []string
	if plane := r.PostFormValue("plane"); plane != "" {
		only = []string{plane}
	}
	if _, err := c.Backups.Ask(r.Context(), s.Actor, only, false); err != nil {
		return err
	}
	http.Redirect(w, r, "/backups", http.StatusSeeOther)
	return nil
}

func (c *console) verifyBackup(w http.ResponseWriter, r *http.Request, s access.Session) error {
	id := r.PathValue("id")
	if _, err := c.Backups.Verify(r.Context(), s.Actor, id); err != nil {
		return err
	}
	http.Redirect(w, r, "/backups/"+id, http.StatusSeeOther)
	return nil
}

func (c *console) askDrill(w http.ResponseWriter, r *http.Request, s access.Session) error {
	d, err := c.Backups.AskDrill(r.Context(), s.Actor)
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/drills/"+d.ID, http.StatusSeeOther)
	return nil
}

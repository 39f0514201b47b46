package console

import (
	"context"
	"net/http"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
)

var jobsPage = newPage("jobs.html")

type workView struct {
	base
	Work work
}

// work is what back ends have made through the hubs' service API.
type work struct {
	CSRF           string
	Jobs           []link.Job
	Configurations []link.Configuration
}

func (c *console) jobs(w http.ResponseWriter, r *http.Request, s access.Session) error {
	found, err := c.findWork(r.Context(), s)
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, jobsPage, "", workView{inside(r, s, "jobs", "Jobs and configurations"), found})
}

func (c *console) findWork(ctx context.Context, s access.Session) (found work, err error) {
	found.CSRF = s.CSRF
	if found.Jobs, err = c.Fleet.Jobs(ctx); err != nil {
		return found, err
	}
	found.Configurations, err = c.Fleet.Configurations(ctx)
	return found, err
}

func (c *console) jobsLive(w http.ResponseWriter, r *http.Request, session access.Session) error {
	return c.live(w, r, 2*pulseEvery, func(ctx context.Context, s *stream) error {
		found, err := c.findWork(ctx, session)
		if err != nil {
			return err
		}
		return s.part(jobsPage, "work", found)
	})
}

func (c *console) cancelJob(w http.ResponseWriter, r *http.Request, s access.Session) error {
	if _, err := c.Fleet.CancelJob(r.Context(), s.Actor, r.PostForm.Get("stamp"), r.PostForm.Get("job")); err != nil {
		return err
	}
	http.Redirect(w, r, "/jobs", http.StatusSeeOther)
	return nil
}

package console

import (
	"net/http"
	"strconv"

	"github.com/slipway/slipway/internal/problem"
)

var troublePage = newPage("trouble.html")

type troubleView struct {
	base
	Status  int
	Message string
	Remedy  string
}

func notFound(_ http.ResponseWriter, r *http.Request) error {
	return problem.New(problem.NotFound, "there is no page %s", r.URL.Path)
}

// fail shows an error as a page, or as a notice when a script asked. Faults of
// ours are logged in full and shown as nothing.
func (c *console) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody is there to be told
	}
	known := problem.Of(err)
	if known.Kind == problem.Internal {
		c.Logger.Error("console", "path", r.URL.Path, "error", err)
	}
	view := troubleView{base: outside(r, headline(known.Kind)), Status: statusOf(known.Kind), Message: known.Error(), Remedy: remedy(known.Kind)}
	if s, err := c.session(r); err == nil {
		view.base = inside(r, s, "", view.Title)
	}
	if known.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(known.RetryAfter.Seconds()+0.999)))
	}
	if fromHTMX(r) {
		w.Header().Set("HX-Retarget", "#notice")
		w.Header().Set("HX-Reswap", "innerHTML")
	}
	if err := show(w, r, view.Status, troublePage, "notice", view); err != nil {
		c.Logger.Error("console", "path", r.URL.Path, "error", err)
	}
}

func headline(kind problem.Kind) string {
	switch kind {
	case problem.NotFound:
		return "Not here"
	case problem.Denied, problem.Unauthenticated:
		return "Not allowed"
	case problem.NotReady, problem.TimedOut:
		return "No answer"
	case problem.Busy:
		return "Too much at once"
	case problem.Internal:
		return "Something went wrong"
	}
	return "That cannot be done"
}

func remedy(kind problem.Kind) string {
	switch kind {
	case problem.NotFound:
		return "It may have been removed or renamed, or the address has a mistake. Search for it among the devices, or begin at the environments."
	case problem.NotReady, problem.TimedOut:
		return "The part of Slipway that knows the answer is starting or away. Devices are not affected by that. Load the page again in a few seconds."
	case problem.Busy:
		return "Wait a few seconds and load the page again."
	case problem.Internal:
		return "The log of the server has the details. Nothing was left half done."
	}
	return "Go back, change what is named above, and try again."
}

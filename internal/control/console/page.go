package console

import (
	"embed"
	"html/template"
	"io"
	"net/http"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/grant"
)

//go:embed templates
var templateFiles embed.FS

// page is the template set of one page: the layout, the shared parts, and the
// page's own file with its "main" and its live parts.
type page struct{ set *template.Template }

// newPage reads a page's templates. A mistake in them stops the program when
// it starts, not when somebody looks.
func newPage(files ...string) *page {
	names := []string{"templates/layout.html", "templates/parts.html"}
	for _, f := range files {
		names = append(names, "templates/"+f)
	}
	return &page{template.Must(template.New("page").Funcs(functions).ParseFS(templateFiles, names...))}
}

func (p *page) render(w io.Writer, name string, data any) error {
	return p.set.ExecuteTemplate(w, name, data)
}

// base is what the layout needs of every page.
type base struct {
	Title string
	Nav   string // the entry of the navigation it belongs to
	Theme string
	Here  string // the page's own address, to come back to
	Who   string
	CSRF  string
	Alarm []grant.Grant // by which somebody has broken the glass
}

// inside is the base of a page for somebody logged in.
func inside(r *http.Request, s access.Session, nav, title string) base {
	return base{Title: title, Nav: nav, Theme: theme(r), Here: here(r), Who: s.Name, CSRF: s.CSRF, Alarm: alarmOf(r)}
}

// outside is the base of a page for anybody.
func outside(r *http.Request, title string) base {
	return base{Title: title, Theme: theme(r), Here: here(r)}
}

func here(r *http.Request) string {
	if r.Method != http.MethodGet {
		return "/"
	}
	return r.URL.RequestURI()
}

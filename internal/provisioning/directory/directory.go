// Package directory holds provisioning's copy of the directory: which
// environments and stamps devices may be sent to. Control writes it; here it
// is kept across restarts, so that devices register while control is away.
package directory

import (
	"cmp"
	"slices"

	"github.com/slipway/slipway/internal/link"
)

// Directory is a directory made easy to look things up in. It never changes.
type Directory struct {
	version      int64
	environments map[string]link.Environment
	stamps       map[string]link.Stamp
	ordered      []link.Stamp
	revoked      []string
	tenants      map[string]link.Tenant
}

// Index makes a Directory of the document.
func Index(document link.Directory) *Directory {
	d := &Directory{
		version:      document.Version,
		environments: make(map[string]link.Environment, len(document.Environments)),
		stamps:       make(map[string]link.Stamp, len(document.Stamps)),
		ordered:      slices.Clone(document.Stamps),
		revoked:      document.RevokedPeers,
		tenants:      map[string]link.Tenant{link.DefaultTenant: {Name: link.DefaultTenant}},
	}
	for _, e := range document.Environments {
		d.environments[e.Name] = e
	}
	for _, t := range document.Tenants {
		d.tenants[t.Name] = t
	}
	for _, s := range document.Stamps {
		d.stamps[s.Name] = s
	}
	slices.SortFunc(d.ordered, func(a, b link.Stamp) int { return cmp.Compare(a.Name, b.Name) })
	return d
}

// Version is the document's version.
func (d *Directory) Version() int64 { return d.version }

// Revoked are the serials of certificates whose owners are not let on the link.
func (d *Directory) Revoked() []string { return d.revoked }

// Tenant finds a tenant by name.
func (d *Directory) Tenant(name string) (link.Tenant, bool) {
	t, ok := d.tenants[name]
	return t, ok
}

// Stamp finds a stamp by name.
func (d *Directory) Stamp(name string) (link.Stamp, bool) {
	s, ok := d.stamps[name]
	return s, ok
}

// Environment finds an environment by name.
func (d *Directory) Environment(name string) (link.Environment, bool) {
	e, ok := d.environments[name]
	return e, ok
}

// Environments lists the environments in order of name.
func (d *Directory) Environments() []link.Environment {
	all := make([]link.Environment, 0, len(d.environments))
	for _, e := range d.environments {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b link.Environment) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// All lists every stamp in order of name.
func (d *Directory) All() []link.Stamp { return slices.Clone(d.ordered) }

// In lists the stamps of an environment in order of name.
func (d *Directory) In(environment string) []link.Stamp {
	return slices.DeleteFunc(d.All(), func(s link.Stamp) bool { return s.Environment != environment })
}

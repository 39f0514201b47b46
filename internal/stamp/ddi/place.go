package ddi

import (
	"net/http"
	"net/url"
	"strings"
)

// place is what a path names.
type place struct {
	tenant     string // as the client spells it
	controller string // the device
	rest       []string
}

// IsPath reports whether a path is of this protocol: /{tenant}/controller/v1/….
func IsPath(path string) bool {
	parts := strings.SplitN(path, "/", 5)
	return len(parts) == 5 && parts[0] == "" && parts[1] != "" && parts[2] == "controller" && parts[3] == "v1"
}

// placeOf takes a path apart as it was sent, so that ids may hold anything that
// is percent-encoded.
func placeOf(escaped string) (place, bool) {
	if !IsPath(escaped) {
		return place{}, false
	}
	parts := strings.Split(strings.TrimSuffix(escaped, "/"), "/")[1:]
	for i, part := range parts {
		text, err := url.PathUnescape(part)
		if err != nil {
			return place{}, false
		}
		parts[i] = text
	}
	if len(parts) < 4 || parts[3] == "" {
		return place{}, false
	}
	return place{parts[0], parts[3], parts[4:]}, true
}

// links makes the addresses that a client is given. Those of work echo the
// tenant as the client spells it, those of files have it in upper case: there
// are clients that look for each.
type links struct{ origin, tenant, controller string }

func linksOf(r *http.Request, at place) links {
	scheme := "https"
	if r.TLS == nil {
		scheme = "http"
	}
	return links{scheme + "://" + r.Host, at.tenant, at.controller}
}

func (l links) work(rest string) string { return l.to(l.tenant, rest) }
func (l links) file(rest string) string { return l.to(strings.ToUpper(l.tenant), rest) }

func (l links) to(tenant, rest string) string {
	return l.origin + "/" + url.PathEscape(tenant) + "/controller/v1/" + url.PathEscape(l.controller) + "/" + rest
}

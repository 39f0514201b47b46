package ddi

import (
	"strings"

	"github.com/slipway/slipway/internal/link"
)

// Client is a kind of update client, as it names itself in its requests.
type Client string

// The kinds that differ in what their success means.
const (
	SWUpdate Client = "swupdate"
	RAUC     Client = "rauc" // rauc-hawkbit-updater
	Other    Client = ""
)

// clientOf reads what a client says it is.
func clientOf(userAgent string) Client {
	text := strings.ToLower(userAgent)
	switch {
	case strings.HasPrefix(text, "swupdate"), strings.HasPrefix(text, "libcurl-agent"): // as it called itself up to 2022
		return SWUpdate
	case strings.HasPrefix(text, "rauc-hawkbit"):
		return RAUC
	}
	return Other
}

// The metadata of a software that update clients are served by.
const (
	metaPart    = "part"    // the chunk's part
	metaConfirm = "confirm" // "feedback" or "version"
	metaWindow  = "window"  // when it may be installed
)

// confirms reports whether a client that says success runs what it was sent for
// good. SWUpdate says so after the restart, when its boot loader has told it
// that the new software came up. Others say so when it is written: the version
// they report then decides. A release may say that its clients are otherwise.
func (r Record) confirms(o link.UpdateOrder) bool {
	for _, s := range o.Software {
		switch s.Metadata[metaConfirm] {
		case "feedback":
			return true
		case "version":
			return false
		}
	}
	return r.Client == SWUpdate
}

// partOf is the part of a chunk. Clients that look at it want bApp; os is the
// habit of those that install whole images.
func partOf(s link.Software) string {
	switch part := s.Metadata[metaPart]; {
	case part == "application":
		return "bApp"
	case part == "runtime":
		return "jvm"
	case part != "":
		return part
	case s.Handler == "swupdate" || s.Handler == "rauc":
		return "os"
	}
	return "bApp"
}

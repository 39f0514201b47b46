// Package runbooks holds what to do about each alert that is shipped, for the
// console to show.
package runbooks

import "embed"

// Files are the runbooks, by the name that alerts give.
//
//go:embed *.md
var Files embed.FS

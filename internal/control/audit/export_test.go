package audit

import "golang.org/x/mod/sumdb/tlog"

// HashOf is the hash that a line's leaf comes to.
func HashOf(l Line) tlog.Hash { return l.Leaf.hash() }

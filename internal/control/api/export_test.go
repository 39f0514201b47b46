package api

import "github.com/slipway/slipway/internal/control/access"

// Needs is what an operation asks for, for tests that hold it against what is
// answered.
func Needs(operation string) (access.Permission, bool) {
	line, found := lines[operation]
	return line.Needs, found
}

// Else is what lets pass as well; empty is nothing.
func Else(operation string) access.Permission { return lines[operation].Else }

// Lines names every operation that has a line.
func Lines() (all []string) {
	for id := range lines {
		all = append(all, id)
	}
	return all
}

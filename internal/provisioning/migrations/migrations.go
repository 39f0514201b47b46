// Package migrations holds the tables of the provisioning plane.
package migrations

import "embed"

// Files are the goose migrations.
//
//go:embed *.sql
var Files embed.FS

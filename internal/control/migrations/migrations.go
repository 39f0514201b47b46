// Package migrations holds the tables of control's database.
package migrations

import "embed"

// FS are the migrations in order of their number.
//
//go:embed *.sql
var FS embed.FS

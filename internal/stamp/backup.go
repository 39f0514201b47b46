package stamp

import (
	"context"
	"path/filepath"

	"github.com/slipway/slipway/internal/backup"
	"github.com/slipway/slipway/internal/vault"
)

// logCopies are the stamp's logs as they are backed up.
func (s *Stamp) logCopies() (all []backup.Log) {
	for name, copied := range s.logs.Copies() {
		all = append(all, backup.Log{Name: name, Copy: copied})
	}
	return all
}

// lasting are the files of a stamp that are backed up: those from devices.
// What releases have brought is fetched again from control.
func lasting(dir string) func(context.Context, func(vault.Item) error) error {
	return func(_ context.Context, each func(vault.Item) error) error {
		if err := backup.Lasting(filepath.Join(dir, "uploads"), "plane/uploads", each); err != nil {
			return err
		}
		return backup.Lasting(filepath.Join(dir, "uploads", "contents"), "plane/uploads/contents", each)
	}
}

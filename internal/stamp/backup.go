package stamp

import (
	"context"
	"path/filepath"

	"github.com/slipway/slipway/internal/backup"
	"github.com/slipway/slipway/internal/seal"
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
// What releases have brought is fetched again from control. The sealing keys of
// several processes lie beside those files; a single one has them in its own
// directory, all of which is backed up.
func lasting(o Options) func(context.Context, func(vault.Item) error) error {
	dir := o.files()
	return func(_ context.Context, each func(vault.Item) error) error {
		if dir != o.Dir && o.SealingKeys == "" {
			if err := backup.Key(filepath.Join(dir, seal.FileName), "plane/"+seal.FileName, each); err != nil {
				return err
			}
		}
		if err := backup.Lasting(filepath.Join(dir, "uploads"), "plane/uploads", each); err != nil {
			return err
		}
		return backup.Lasting(filepath.Join(dir, "uploads", "contents"), "plane/uploads/contents", each)
	}
}

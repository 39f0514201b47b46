package control

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"time"

	taking "github.com/slipway/slipway/internal/backup"
	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/artifact"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/backup"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/vault"
)

// backingUp builds what takes control's own backup, and what has every plane
// backed up.
func (p *Plane) backingUp(o Options, log *audit.Log) error {
	secret, err := seal.Secret(filepath.Join(o.Dir, "backup.key"))
	if err != nil {
		return err
	}
	p.taker = taking.New(taking.Source{
		Peer: link.ControlPeer, Version: o.Version, Dir: o.Dir, Root: o.Root, DB: p.db, Files: p.artifactFiles, Logger: o.Logger, Now: time.Now,
	})
	p.backups, err = backup.New(backup.Options{
		Config: o.Backups, DB: p.db, Audit: log, Secret: secret, Stamps: p.environments.Stamps, Tenants: p.environments.Tenants, Logger: o.Logger, Now: time.Now,
		Take: func(ctx context.Context, peer string, req link.TakeBackup) (link.BackupState, error) {
			return bus.Ask(ctx, o.Conn, peer, link.BackupTake, req)
		},
		Status: func(ctx context.Context, peer string, ref link.BackupRef) (link.BackupState, error) {
			return bus.Ask(ctx, o.Conn, peer, link.BackupStatus, ref)
		},
	})
	return errors.Join(err,
		bus.Answer(o.Conn, link.ControlPeer, link.BackupTake, p.taker.Take),
		bus.Answer(o.Conn, link.ControlPeer, link.BackupStatus, p.taker.Status),
	)
}

// artifactFiles passes on the files of releases, wherever they are kept, under
// the names that they have in a directory.
func (p *Plane) artifactFiles(ctx context.Context, each func(vault.Item) error) error {
	for after := ""; ; {
		page, err := p.artifacts.List(ctx, after, link.MaxPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, f := range page {
			after = f.SHA256
			if f.State != artifact.Here {
				continue
			}
			err := each(vault.Item{Path: "plane/artifacts/files/" + f.SHA256[:2] + "/" + f.SHA256, Size: f.Size, Key: f.SHA256, Open: func(ctx context.Context) (io.ReadCloser, error) {
				return p.artifacts.Open(ctx, f.SHA256)
			}})
			if err != nil {
				return err
			}
		}
	}
}

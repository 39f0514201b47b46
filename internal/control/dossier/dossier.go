// Package dossier hands out everything that is kept of a device, or of a
// tenant with all its devices, from every plane, as one archive: for whoever
// may ask what is known of them.
package dossier

import (
	"archive/zip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// The kinds of subjects.
const (
	Device = "device"
	Tenant = "tenant"
)

// Options are what dossiers need.
type Options struct {
	Audit *audit.Log
	// Export follows what a plane keeps of a device.
	Export func(ctx context.Context, peer, device string, each func(link.SubjectItem) error) error
	// Registered and Here find a tenant's devices.
	Registered func(ctx context.Context, req link.ListRegistrations) (link.Registrations, error)
	Here       func(ctx context.Context, stamp string, req link.QueryDevices) (link.Devices, error)
	Stamps     func(ctx context.Context) ([]resource.Stamp, error)
	Tenant     func(ctx context.Context, name string) (resource.Tenant, error)
	Known      func(ctx context.Context, kind, subject string) error
	Now        func() time.Time
}

// Dossiers are made for whoever asks.
type Dossiers struct {
	Options
	making chan struct{}
}

const (
	// atOnce bounds how many are made together, maxBytes what one may hold.
	atOnce   = 4
	maxBytes = 16 << 30
	lookTime = 20 * time.Second
)

// New returns what makes dossiers.
func New(o Options) *Dossiers { return &Dossiers{o, make(chan struct{}, atOnce)} }

// Manifest is the last file of an archive. One that has none was cut off.
type Manifest struct {
	Kind     string    `json:"kind"`
	Subject  string    `json:"subject"`
	MadeAt   time.Time `json:"madeAt"`
	Complete bool      `json:"complete"` // every plane answered
	Away     []string  `json:"away,omitempty"`
	Devices  int       `json:"devices"`
	Files    []File    `json:"files"`
}

// File is one of an archive.
type File struct {
	Name    string `json:"name"`
	Records int    `json:"records,omitempty"`
	Bytes   int64  `json:"bytes"`
}

// Dossier is one that is about to be written.
type Dossier struct {
	dossiers *Dossiers
	manifest Manifest
	out      *zip.Writer
	current  io.Writer
	names    map[string]int // how often a name was taken
	seen     map[string]bool
	bytes    int64
}

// Open begins a dossier; that it was asked for is recorded before anything is
// handed out. Write must follow, or Close.
func (d *Dossiers) Open(ctx context.Context, actor access.Actor, kind, subject, reason string) (*Dossier, error) {
	switch {
	case kind != Device && kind != Tenant:
		return nil, problem.New(problem.Invalid, "a dossier is of a device or a tenant, not of a %q", kind).At("kind")
	case strings.TrimSpace(reason) == "":
		return nil, problem.New(problem.Invalid, "say why").At("reason")
	}
	if err := d.Known(ctx, kind, subject); err != nil {
		return nil, err
	}
	select {
	case d.making <- struct{}{}:
	default:
		return nil, problem.New(problem.Busy, "%d dossiers are being made, the most there may be at once", atOnce).After(10 * time.Second)
	}
	if err := d.Audit.Write(ctx, audit.Entry{Actor: actor.Name, Action: "data.export", Object: kind + "/" + subject, Reason: reason}); err != nil {
		<-d.making
		return nil, err
	}
	return &Dossier{dossiers: d, names: map[string]int{}, seen: map[string]bool{}, manifest: Manifest{Kind: kind, Subject: subject, MadeAt: d.Now().UTC(), Complete: true, Files: []File{}}}, nil
}

// Close gives the place back that a dossier takes.
func (d *Dossier) Close() { <-d.dossiers.making }

// Write writes the archive as it comes.
func (d *Dossier) Write(ctx context.Context, to io.Writer) error {
	d.out = zip.NewWriter(to)
	stamps, err := d.dossiers.Stamps(ctx)
	if err != nil {
		return err
	}
	peers := []string{link.ControlPeer, link.ProvisioningPeer}
	for _, s := range stamps {
		peers = append(peers, link.StampPeer(s.Metadata.Name))
	}
	one := func(device string) error { return d.device(ctx, peers, device) }
	if d.manifest.Kind == Device {
		err = one(d.manifest.Subject)
	} else {
		err = d.tenant(ctx, stamps, one)
	}
	if err != nil {
		return err
	}
	if err := d.create("manifest.json"); err != nil {
		return err
	}
	encoder := json.NewEncoder(d.current)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(d.manifest); err != nil {
		return err
	}
	return d.out.Close()
}

// tenant writes a tenant and each of its devices, once.
func (d *Dossier) tenant(ctx context.Context, stamps []resource.Stamp, one func(string) error) error {
	declared, err := d.dossiers.Tenant(ctx, d.manifest.Subject)
	if err != nil {
		return err
	}
	if err := d.create("tenant.json"); err != nil {
		return err
	}
	if err := json.NewEncoder(d.current).Encode(declared); err != nil {
		return err
	}
	for after, more := "", true; more; {
		limited, cancel := context.WithTimeout(ctx, lookTime)
		page, err := d.dossiers.Registered(limited, link.ListRegistrations{Tenant: d.manifest.Subject, After: after})
		cancel()
		if err != nil {
			return err
		}
		more = page.More
		for _, r := range page.Items {
			if err := one(r.DeviceID); err != nil {
				return err
			}
			after, d.seen[r.DeviceID] = r.DeviceID, true
		}
	}
	for _, s := range stamps {
		if err := d.unregistered(ctx, s.Metadata.Name, one); err != nil {
			return err
		}
	}
	return nil
}

// unregistered writes devices that a back end made on a stamp, which
// provisioning does not know.
func (d *Dossier) unregistered(ctx context.Context, stamp string, one func(string) error) error {
	for after, more := "", true; more; {
		limited, cancel := context.WithTimeout(ctx, lookTime)
		page, err := d.dossiers.Here(limited, stamp, link.QueryDevices{Tenant: d.manifest.Subject, After: after})
		cancel()
		if err != nil {
			d.missed(link.StampPeer(stamp), err)
			return nil
		}
		more = page.More
		for _, found := range page.Items {
			if after = found.DeviceID; d.seen[after] {
				continue
			}
			if err := one(after); err != nil {
				return err
			}
		}
	}
	return nil
}

// missed notes a plane that did not answer, once.
func (d *Dossier) missed(peer string, err error) {
	d.manifest.Complete = false
	why := peer + ": " + problem.Of(err).Error()
	for _, known := range d.manifest.Away {
		if known == why {
			return
		}
	}
	d.manifest.Away = append(d.manifest.Away, why)
}

// device writes what every plane keeps of a device. One that is away is left
// out, and the manifest says so.
func (d *Dossier) device(ctx context.Context, peers []string, device string) error {
	d.manifest.Devices++
	for _, peer := range peers {
		var broken error
		into := "" // the name of the file that is open
		err := d.dossiers.Export(ctx, peer, device, func(item link.SubjectItem) error {
			broken = d.item(peer, device, item, &into)
			return broken
		})
		if broken != nil {
			return broken
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			d.missed(peer, err)
		}
	}
	return nil
}

// item writes a record, or a part of a file.
func (d *Dossier) item(peer, device string, item link.SubjectItem, into *string) error {
	name, content := path.Join(d.folder(device), peer, item.Kind+".jsonl"), append(item.Row, '\n')
	if item.File != "" {
		name, content = path.Join(d.folder(device), peer, "files", plain(item.File)), item.Data
	}
	if *into != name {
		if err := d.create(name); err != nil {
			return err
		}
		*into = name
	}
	if d.bytes += int64(len(content)); d.bytes > maxBytes {
		return problem.New(problem.TooLarge, "a dossier has at most %d bytes; ask for single devices", int64(maxBytes))
	}
	file := &d.manifest.Files[len(d.manifest.Files)-1]
	file.Bytes += int64(len(content))
	if item.File == "" {
		file.Records++
	}
	_, err := d.current.Write(content)
	return err
}

func (d *Dossier) folder(device string) string {
	if d.manifest.Kind == Device {
		return ""
	}
	return path.Join("devices", plain(device))
}

// plain is a name that stays below the folder it is put in.
func plain(name string) string {
	parts := strings.Split(strings.NewReplacer("\\", "_", ":", "_", "\x00", "_").Replace(name), "/")
	for i, p := range parts {
		if p == "" || p == "." || p == ".." {
			parts[i] = "_"
		}
	}
	return strings.Join(parts, "/")
}

// create begins a file; a name that was taken gets a number.
func (d *Dossier) create(name string) (err error) {
	d.names[name]++
	if n := d.names[name]; n > 1 {
		suffix := path.Ext(name)
		name = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, suffix), n, suffix)
	}
	d.current, err = d.out.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: d.manifest.MadeAt})
	if name != "manifest.json" {
		d.manifest.Files = append(d.manifest.Files, File{Name: name})
	}
	return err
}

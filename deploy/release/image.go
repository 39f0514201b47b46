package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// nonroot is whom the image runs as.
const nonroot = 65532

// image makes the container image of every Linux platform, as an archive of an
// OCI layout: the program, certificate authorities and an empty directory for
// data, which is what deploy/Containerfile makes.
func (r *release) image() error {
	index := v1.ImageIndex(mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	for _, p := range r.platforms {
		if p.os != "linux" {
			continue
		}
		one, err := r.imageOf(p)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: p.os, Architecture: p.arch}}})
	}
	dir, err := os.MkdirTemp("", "slipway-image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	where, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := where.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": r.number()})); err != nil {
		return err
	}
	return r.archive(dir, filepath.Join(r.out, "slipway-"+r.number()+"-image.tar"))
}

func (r *release) imageOf(p platform) (v1.Image, error) {
	program, err := os.ReadFile(r.built("slipway", p))
	if err != nil {
		return nil, err
	}
	authorities, err := os.ReadFile(r.authority)
	if err != nil {
		return nil, fmt.Errorf("-ca-certificates: %w", err)
	}
	base, err := r.layer([]entry{
		{"etc/", nil, 0o755, 0}, {"etc/passwd", []byte("root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/var/lib/slipway:/sbin/nologin\n"), 0o644, 0},
		{"etc/group", []byte("root:x:0:\nnonroot:x:65532:\n"), 0o644, 0}, {"etc/ssl/", nil, 0o755, 0}, {"etc/ssl/certs/", nil, 0o755, 0},
		{"etc/ssl/certs/ca-certificates.crt", authorities, 0o644, 0}, {"tmp/", nil, 0o1777, 0}, {"var/", nil, 0o755, 0}, {"var/lib/", nil, 0o755, 0}, {"var/lib/slipway/", nil, 0o700, nonroot},
	})
	if err != nil {
		return nil, err
	}
	top, err := r.layer([]entry{{"usr/", nil, 0o755, 0}, {"usr/local/", nil, 0o755, 0}, {"usr/local/bin/", nil, 0o755, 0}, {"usr/local/bin/slipway", program, 0o755, 0}})
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), base, top)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = p.os, p.arch, v1.Time{Time: r.at}
	config.Config = v1.Config{
		User: fmt.Sprintf("%d:%d", nonroot, nonroot), Entrypoint: []string{"/usr/local/bin/slipway"}, WorkingDir: "/var/lib/slipway",
		Env: []string{"PATH=/usr/local/bin", "HOME=/var/lib/slipway"}, Volumes: map[string]struct{}{"/var/lib/slipway": {}},
		Labels: map[string]string{"org.opencontainers.image.title": "slipway", "org.opencontainers.image.version": r.version, "org.opencontainers.image.revision": r.commit, "org.opencontainers.image.source": r.source},
	}
	return mutate.ConfigFile(image, config)
}

// entry is a file of a layer, or a directory where its name ends in a slash.
type entry struct {
	name  string
	text  []byte
	mode  int64
	owner int
}

func (r *release) layer(entries []entry) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := r.put(w, e); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, tarball.WithMediaType(types.OCILayer))
}

func (r *release) put(w *tar.Writer, e entry) error {
	header := &tar.Header{Name: e.name, Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.text)), ModTime: r.at.Truncate(time.Second), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	if e.name[len(e.name)-1] == '/' {
		header.Typeflag = tar.TypeDir
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(e.text)
	return err
}

// archive packs a directory, in order of name.
func (r *release) archive(dir, file string) (err error) {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	defer func() { err = errors.Join(err, w.Close(), out.Close()) }()
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return r.put(w, entry{filepath.ToSlash(name) + "/", nil, 0o755, 0})
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return r.put(w, entry{filepath.ToSlash(name), text, 0o644, 0})
	})
}

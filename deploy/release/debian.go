package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/slipway/slipway/internal/cli"
)

// pack gathers the files of one Debian package.
type pack struct {
	r        *release
	platform platform
	dir      string // for files that are made for it
	name     string
	info     *nfpm.Info
	made     int
}

func (r *release) pack(name, description string, p platform) (*pack, error) {
	dir, err := os.MkdirTemp("", "slipway-deb")
	if err != nil {
		return nil, err
	}
	return &pack{r: r, platform: p, dir: dir, name: name, info: &nfpm.Info{
		Name: name, Arch: p.arch, Platform: p.os, Version: r.number(), VersionSchema: debianSchema(r.number()), Section: "net", Priority: "optional", MTime: r.at, DisableGlobbing: true,
		Maintainer: "Slipway maintainers <maintainers@slipway.invalid>", Homepage: r.source, Description: description, License: "Apache-2.0",
		Overridables: nfpm.Overridables{Deb: nfpm.Deb{Compression: "gzip"}},
	}}, nil
}

// debianSchema tells whether a version is one that can be put in order; what
// git describes between versions is taken as it is.
func debianSchema(number string) string {
	if strings.Count(number, ".") >= 2 {
		return "semver"
	}
	return "none"
}

// file puts a file of the repository, or one that was built, into the package.
func (k *pack) file(source, destination string, mode os.FileMode) {
	k.info.Contents = append(k.info.Contents, &files.Content{Source: source, Destination: destination, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: k.r.at}})
}

// text puts a file into the package that is made for it.
func (k *pack) text(destination string, text []byte) error {
	k.made++
	source := filepath.Join(k.dir, fmt.Sprint(k.made))
	if err := os.WriteFile(source, text, 0o644); err != nil {
		return err
	}
	k.file(source, destination, 0o644)
	return nil
}

// zipped does so with gzip, as Debian wants manual pages and changes.
func (k *pack) zipped(destination string, text []byte) error {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return k.text(destination+".gz", b.Bytes())
}

// unit puts a systemd unit into the package, with the program where packages
// have theirs.
func (k *pack) unit(name string) error {
	text, err := os.ReadFile(filepath.Join(k.r.root, "deploy", "systemd", name))
	if err != nil {
		return err
	}
	return k.text("/usr/lib/systemd/system/"+name, bytes.ReplaceAll(text, []byte("/usr/local/bin/"), []byte("/usr/bin/")))
}

// papers are what every package says of itself.
func (k *pack) papers() error {
	license, err := os.ReadFile(filepath.Join(k.r.root, "LICENSE"))
	if err != nil {
		return err
	}
	copyright := "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: slipway\nSource: " + k.r.source + "\n\nFiles: *\nCopyright: the Slipway authors\nLicense: Apache-2.0\n"
	for _, line := range strings.Split(strings.TrimRight(string(license), "\n"), "\n") {
		if line = strings.TrimRight(line, " "); line == "" {
			line = "."
		}
		copyright += " " + line + "\n"
	}
	changes := fmt.Sprintf("%s (%s) unstable; urgency=medium\n\n  * Version %s, built from commit %s.\n\n -- %s  %s\n", k.name, k.r.number(), k.r.version, k.r.commit, k.info.Maintainer, k.r.at.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	return errors.Join(k.text("/usr/share/doc/"+k.name+"/copyright", []byte(copyright)), k.zipped("/usr/share/doc/"+k.name+"/changelog", []byte(changes)))
}

// write makes the package.
func (k *pack) write() (err error) {
	if err := nfpm.PrepareForPackager(nfpm.WithDefaults(k.info), "deb"); err != nil {
		return fmt.Errorf("package %s: %w", k.name, err)
	}
	file, err := os.Create(filepath.Join(k.r.out, k.name+"_"+k.r.number()+"_"+k.platform.arch+".deb"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), os.RemoveAll(k.dir)) }()
	return deb.Default.Package(k.info, file)
}

// script keeps one that dpkg runs.
func (k *pack) script(into *string, text string) error {
	k.made++
	*into = filepath.Join(k.dir, fmt.Sprint(k.made))
	return os.WriteFile(*into, []byte("#!/bin/sh\nset -e\n"+text), 0o755)
}

// Of the scripts: systemd reads the units anew, and nothing is started that
// nobody has configured; what runs is started anew with the new program.
const (
	reload   = "if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi\n"
	withUser = "if [ \"$1\" = configure ] && ! getent passwd slipway >/dev/null; then\n  useradd --system --user-group --home-dir /var/lib/slipway --no-create-home --shell /usr/sbin/nologin slipway\nfi\n"
	restart  = "if [ \"$1\" = configure ] && [ -n \"$2\" ] && [ -d /run/systemd/system ]; then systemctl try-restart '%s'; fi\n"
	stopped  = "if [ \"$1\" = remove ] && [ -d /run/systemd/system ]; then systemctl stop '%s'; fi\n"
)

// debServer is the package of a server: the program, its units, manual pages
// and completions.
func (r *release) debServer(p platform) error {
	k, err := r.pack("slipway", "From test to production: an IoT installation and the tool for it\n Runs the planes of a Slipway installation, and works with one: environments,\n stamps, devices, releases, promotions.", p)
	if err != nil {
		return err
	}
	k.info.Depends, k.info.Recommends = []string{"passwd"}, []string{"ca-certificates"}
	k.file(r.built("slipway", p), "/usr/bin/slipway", 0o755)
	k.info.Contents = append(k.info.Contents, &files.Content{Destination: "/etc/slipway", Type: files.TypeDir, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: 0o755, MTime: r.at}})
	return errors.Join(
		k.unit("slipway-control.service"), k.unit("slipway-provisioning.service"), k.unit("slipway-stamp@.service"),
		k.manual(), k.completions(), k.papers(),
		k.script(&k.info.Scripts.PostInstall, withUser+reload+fmt.Sprintf(restart, "slipway-*.service")),
		k.script(&k.info.Scripts.PreRemove, fmt.Sprintf(stopped, "slipway-*.service")),
		k.script(&k.info.Scripts.PostRemove, reload),
		k.write(),
	)
}

// debAgent is the package of a device.
func (r *release) debAgent(p platform) error {
	k, err := r.pack("slipway-agent", "Connects this device to Slipway and updates its software\n Registers the device, connects it to the stamp it belongs to, and follows\n update orders: signed, tried, confirmed or taken back.", p)
	if err != nil {
		return err
	}
	k.info.Recommends = []string{"ca-certificates"}
	k.file(r.built("slipway-agent", p), "/usr/bin/slipway-agent", 0o755)
	return errors.Join(
		k.unit("slipway-agent.service"), k.papers(),
		k.script(&k.info.Scripts.PostInstall, reload+fmt.Sprintf(restart, "slipway-agent.service")),
		k.script(&k.info.Scripts.PreRemove, fmt.Sprintf(stopped, "slipway-agent.service")),
		k.script(&k.info.Scripts.PostRemove, reload),
		k.write(),
	)
}

// manual is a page for each command.
func (k *pack) manual() error {
	dir := filepath.Join(k.dir, "man")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	header := &doc.GenManHeader{Title: "SLIPWAY", Section: "1", Date: &k.r.at, Source: "slipway " + k.r.version, Manual: "Slipway"}
	root := commands()
	if err := doc.GenManTree(root, header, dir); err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		return err
	}
	slices.Sort(pages)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		if err := k.zipped("/usr/share/man/man1/"+filepath.Base(page), text); err != nil {
			return err
		}
	}
	return nil
}

// commands is every command there is, without a line that says when a page was
// made.
func commands() *cobra.Command {
	root := cli.Commands()
	root.DisableAutoGenTag = true
	return root
}

// completions are those of each shell.
func (k *pack) completions() error {
	root := commands()
	var bash, zsh, fish bytes.Buffer
	if err := errors.Join(root.GenBashCompletionV2(&bash, true), root.GenZshCompletion(&zsh), root.GenFishCompletion(&fish, true)); err != nil {
		return err
	}
	return errors.Join(
		k.text("/usr/share/bash-completion/completions/slipway", bash.Bytes()),
		k.text("/usr/share/zsh/vendor-completions/_slipway", zsh.Bytes()),
		k.text("/usr/share/fish/vendor_completions.d/slipway.fish", fish.Bytes()),
	)
}

// Command release makes everything that is handed out of one version: static
// programs for each platform, Debian packages, a container image, the bill of
// materials of each program, checksums, and a signed statement of how it all
// came about. The same commit gives the same bytes, wherever it is built.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// release is one version on its way out.
type release struct {
	root, out string
	version   string
	commit    string
	source    string    // URL of the repository
	at        time.Time // of the commit, which every file has
	authority string    // file of the certificate authorities that the image trusts
	key       string    // file of the key that signs the statement; empty for none
	platforms []platform
}

// platform is an operating system with an architecture, as Go names them.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "-" + p.arch }

// programs are what is built for each platform; the agent is for Linux devices.
var programs = []string{"slipway", "slipway-agent"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := release{}
	var platforms string
	flag.StringVar(&r.root, "root", ".", "the repository")
	flag.StringVar(&r.out, "out", "dist/release", "directory to fill; what is in it is removed")
	flag.StringVar(&r.version, "version", "", "such as v1.4.0; default what git describe says")
	flag.StringVar(&r.source, "source", "https://github.com/slipway/slipway", "URL of the repository, for the statement")
	flag.StringVar(&r.authority, "ca-certificates", "/etc/ssl/certs/ca-certificates.crt", "certificate authorities that the image trusts, PEM")
	flag.StringVar(&r.key, "key", "", "private key (PKCS #8 PEM, Ed25519 or ECDSA P-256) that signs the provenance; without it nothing is signed")
	flag.StringVar(&platforms, "platforms", "linux/amd64,linux/arm64,darwin/arm64", "what to build for")
	flag.Parse()
	if err := r.run(ctx, platforms); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func (r *release) run(ctx context.Context, platforms string) error {
	if err := r.settle(ctx, platforms); err != nil {
		return err
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	for _, p := range r.platforms {
		if err := r.build(ctx, p); err != nil {
			return err
		}
	}
	for _, p := range r.platforms {
		if p.os != "linux" {
			continue
		}
		for _, pack := range []func(platform) error{r.debServer, r.debAgent} {
			if err := pack(p); err != nil {
				return err
			}
		}
	}
	if err := r.image(); err != nil {
		return err
	}
	return r.conclude(ctx)
}

// settle finds out what is to be released.
func (r *release) settle(ctx context.Context, platforms string) (err error) {
	if r.root, err = filepath.Abs(r.root); err != nil {
		return err
	}
	if r.out, err = filepath.Abs(r.out); err != nil {
		return err
	}
	for _, text := range strings.Split(platforms, ",") {
		system, arch, ok := strings.Cut(text, "/")
		if !ok {
			return fmt.Errorf("-platforms: a platform reads OS/ARCH, not %q", text)
		}
		r.platforms = append(r.platforms, platform{system, arch})
	}
	if r.commit, err = r.git(ctx, "rev-parse", "HEAD"); err != nil {
		return err
	}
	seconds, err := r.git(ctx, "show", "-s", "--format=%ct", "HEAD")
	if err != nil {
		return err
	}
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		seconds = text
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH is a number of seconds: %w", err)
	}
	r.at = time.Unix(n, 0).UTC()
	if r.version == "" {
		if r.version, err = r.git(ctx, "describe", "--tags", "--always", "--dirty"); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) git(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", r.root}, args...)...).Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("git %s: %s", args[0], failed.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// built is the file of a program for a platform.
func (r *release) built(program string, p platform) string {
	return filepath.Join(r.out, program+"-"+r.number()+"-"+p.String())
}

// number is the version as file names and packages have it.
func (r *release) number() string { return strings.TrimPrefix(r.version, "v") }

// build makes the programs of a platform, statically and without the paths of
// this machine.
func (r *release) build(ctx context.Context, p platform) error {
	for _, program := range programs {
		if program == "slipway-agent" && p.os != "linux" {
			continue
		}
		flags := "-s -w -buildid= -X github.com/slipway/slipway/internal/cli.release=" + r.version + " -X github.com/slipway/slipway/internal/agent.release=" + r.version
		command := exec.CommandContext(ctx, "go", "build", "-C", r.root, "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", r.built(program, p), "./cmd/"+program)
		command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS="+os.Getenv("GOFLAGS"))
		if text, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s for %s: %w\n%s", program, p, err, text)
		}
	}
	return nil
}

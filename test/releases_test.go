package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/serve"
)

// previous is the release before this one: planes of the two must get along.
const previous = "6c7ad50"

// release is a program of another release, built once.
func release(t *testing.T, build func() (string, error)) string {
	t.Helper()
	file, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func nextRelease(t *testing.T) string     { t.Helper(); return release(t, buildNext) }
func previousRelease(t *testing.T) string { t.Helper(); return release(t, buildPrevious) }

// buildNext builds this program under another name.
var buildNext = sync.OnceValues(func() (string, error) {
	file := filepath.Join(filepath.Dir(binary), "slipway-next")
	return file, build("../cmd/slipway", ".", "-ldflags", "-X github.com/slipway/slipway/internal/cli.release=v9.9.9", "-o", file)
})

// buildPrevious builds the previous release from the repository's history. Where
// that is not to be had, another build of this one stands in.
var buildPrevious = sync.OnceValues(func() (string, error) {
	file := filepath.Join(filepath.Dir(binary), "slipway-previous")
	dir, err := os.MkdirTemp("", "slipway-previous")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	archive := filepath.Join(dir, "source.tar")
	if exec.Command("git", "-C", "..", "cat-file", "-e", previous).Run() != nil {
		if err := exec.Command("git", "-C", "..", "fetch", "--unshallow").Run(); err != nil {
			fmt.Fprintf(os.Stderr, "%s is not in the repository's history here (git fetch --unshallow brings it); another build of this release stands in for it\n", previous)
			return file, build("../cmd/slipway", ".", "-o", file)
		}
	}
	for _, args := range [][]string{{"git", "archive", "--format=tar", "-o", archive, previous}, {"tar", "-xf", archive, "-C", dir}} {
		command := exec.Command(args[0], args[1:]...)
		command.Dir = ".."
		if out, err := command.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return file, build("./cmd/slipway", dir, "-o", file)
})

func build(what, dir string, flags ...string) error {
	command := exec.Command("go", append(append([]string{"build"}, flags...), what)...)
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", what, err, out)
	}
	return nil
}

// TestPlanesOfTwoReleasesGetAlong upgrades the planes of an installation one at a
// time, on their data, in an order in which each pair is of two releases once.
func TestPlanesOfTwoReleasesGetAlong(t *testing.T) {
	t.Parallel()
	p := startPlanesOf(t, previousRelease(t), "", "test-1", "test-2")
	eventually(t, "both stamps are in the directory", 2*time.Minute, func() bool {
		return strings.Count(p.must("stamp", "list"), "127.77.") == 2
	})
	p.enrol()
	hands := make([]*hand, 6)
	for i := range hands {
		hands[i] = &hand{id: fmt.Sprintf("skew-%02d", i)}
	}
	l := p.put(hands)
	l.progress(t, "every device works on the previous release", everyone)
	for i, name := range []string{"test-1", serve.Provisioning, serve.Control, "test-2"} {
		p.end(name, syscall.SIGTERM)
		p.parts[name].program = binary
		p.again(name)
		l.progress(t, "every device works with "+name+" upgraded", everyone)
		p.newcomer(t, fmt.Sprintf("newcomer-%d", i))
		mover := hands[i].id
		to := map[string]string{"test-1": "test-2", "test-2": "test-1"}[*l.home[i].Load()]
		eventually(t, mover+" can be moved", 2*time.Minute, func() bool {
			_, err := p.run("device", "move", mover, "--to-stamp", to, "--wait", "--timeout", "30s")
			return err == nil
		})
		l.progress(t, "every device works after the move of one", everyone)
		if home := *l.home[i].Load(); home != to {
			t.Errorf("%s is on %s, not %s", mover, home, to)
		}
		p.must("device", "twin", mover)
	}
	close(l.stop)
	l.done.Wait()
	for _, h := range hands {
		h.check(t, p.installation)
	}
	everyDeviceInOnePlace(t, p.installation, hands)
}

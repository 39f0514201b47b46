package seal_test

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/seal"
)

func TestASecretIsMadeOnceForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	made := make([][]byte, 8)
	var all sync.WaitGroup
	for i := range made {
		all.Go(func() {
			var err error
			if made[i], err = seal.Secret(file); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, one := range made {
		if len(one) != seal.SecretSize || !bytes.Equal(one, made[0]) {
			t.Errorf("%x beside %x", one, made[0])
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Secret(file); !problem.Is(err, problem.Invalid) {
		t.Errorf("a short secret: %v", err)
	}
}

func TestWhatIsSealedOpensUnderItsNameAndSecretOnly(t *testing.T) {
	t.Parallel()
	box, err := seal.New(bytes.Repeat([]byte{1}, seal.SecretSize))
	if err != nil {
		t.Fatal(err)
	}
	other, err := seal.New(bytes.Repeat([]byte{2}, seal.SecretSize))
	if err != nil {
		t.Fatal(err)
	}
	sealed := box.Seal("a", []byte("content"))
	if sealed == box.Seal("a", []byte("content")) {
		t.Error("the same content is sealed to the same text twice")
	}
	if plain, err := box.Open("a", sealed); err != nil || string(plain) != "content" {
		t.Errorf("%q, %v", plain, err)
	}
	for _, try := range []struct {
		box          seal.Box
		name, sealed string
	}{{box, "b", sealed}, {other, "a", sealed}, {box, "a", sealed[:len(sealed)-4] + "AAAA"}, {box, "a", ""}, {box, "a", "no base64"}} {
		if plain, err := try.box.Open(try.name, try.sealed); err == nil {
			t.Errorf("%+v opened to %q", try, plain)
		}
	}
}

package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/slipway/slipway/internal/control/artifact"
)

// falling is a file during whose reading something happens once.
type falling struct {
	*bytes.Reader
	sending bool  // it was read once, for its digest
	left    int64 // until it happens
	happen  func()
	sent    int64
}

// Seek implements io.Seeker.
func (f *falling) Seek(offset int64, whence int) (int64, error) {
	f.sending = true
	return f.Reader.Seek(offset, whence)
}

// Read implements io.Reader.
func (f *falling) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if f.sending {
		f.sent += int64(n)
		if f.left -= int64(n); f.left <= 0 && f.happen != nil {
			f.happen()
			f.happen = nil
		}
	}
	return n, err
}

// TestAnArtifactArrivesThoughControlIsKilled kills the server at random places
// of a file that is being sent, and holds it to what it had taken.
func TestAnArtifactArrivesThoughControlIsKilled(t *testing.T) {
	in := start(t)
	content := make([]byte, 60<<20+12345)
	random := rand.NewChaCha8([32]byte{1})
	if _, err := io.ReadFull(random, content); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	id := hex.EncodeToString(sum[:])
	kills, sent, acked := 4, int64(0), int64(0)
	for range kills {
		sending, stop := context.WithCancel(t.Context())
		file := &falling{Reader: bytes.NewReader(content), left: 1 + rand.Int64N(20<<20), happen: func() { in.kill(syscall.SIGKILL); stop() }}
		_, err := in.api.PutArtifact(sending, "fw.bin", file, func(f artifact.File) { acked = max(acked, f.Received) })
		if sent += file.sent; err == nil {
			t.Log("it was all there before the kill")
			stop()
		}
		in.launch()
		f, err := in.api.Artifact(t.Context(), id)
		if err != nil && acked > 0 || f.Received < acked {
			t.Fatalf("%d bytes were acknowledged, %d are there: %v", acked, f.Received, err)
		}
	}
	file := &falling{Reader: bytes.NewReader(content)}
	f, err := in.api.PutArtifact(t.Context(), "fw.bin", file, func(artifact.File) {})
	if err != nil || f.State != artifact.Here || f.SHA256 != id {
		t.Fatalf("%+v, %v", f, err)
	}
	sent += file.sent
	// Each kill costs at most the part under way and what the sockets held.
	if most := int64(len(content)) + int64(kills)*(artifact.MaxPart+8<<20); sent > most {
		t.Errorf("%d bytes were sent, more than %d", sent, most)
	}
	var got bytes.Buffer
	if err := in.api.ReadArtifact(t.Context(), id, 0, &got); err != nil || !bytes.Equal(got.Bytes(), content) {
		t.Errorf("%d bytes came back, %v", got.Len(), err)
	}
	var rest bytes.Buffer
	if err := in.api.ReadArtifact(t.Context(), id, 60<<20, &rest); err != nil || !bytes.Equal(rest.Bytes(), content[60<<20:]) {
		t.Errorf("%d bytes came back of the rest, %v", rest.Len(), err)
	}
	t.Logf("%d MiB arrived over %d kills, for which %d MiB were sent", len(content)>>20, kills, sent>>20)
}

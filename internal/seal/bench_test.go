package seal_test

import (
	"testing"
	"time"

	"github.com/slipway/slipway/internal/seal"
)

// BenchmarkOpen is what a device's identity costs more for each of its keys.
func BenchmarkOpen(b *testing.B) {
	key := seal.Generate(time.Now())
	seal.Ring{key}.Keep()
	sealed := key.Seal("device.primary_key/d", make([]byte, 32))
	for b.Loop() {
		if _, err := seal.Open("device.primary_key/d", sealed); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSeal is what writing one costs more.
func BenchmarkSeal(b *testing.B) {
	key := seal.Generate(time.Now())
	plain := make([]byte, 32)
	for b.Loop() {
		key.Seal("device.primary_key/d", plain)
	}
}

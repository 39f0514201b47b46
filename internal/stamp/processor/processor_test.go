package processor_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/processor"
)

// build compiles the processor of testdata with the real compiler.
func build(t testing.TB) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "celsius.wasm")
	command := exec.Command("go", "build", "-o", file, "./testdata/celsius")
	command.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	module, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

func run(t *testing.T, p *processor.Processor, messages ...string) ([]string, error) {
	t.Helper()
	var lines [][]byte
	for _, m := range messages {
		lines = append(lines, []byte(m))
	}
	out, err := p.Run(t.Context(), lines)
	var texts []string
	for _, line := range out {
		texts = append(texts, string(line))
	}
	return texts, err
}

func TestAProcessor(t *testing.T) {
	p, err := processor.Compile(t.Context(), build(t), processor.Limits{Memory: 32, Time: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("makes messages others and drops some", func(t *testing.T) {
		got, err := run(t, p, `{"body":{"temperature":212}}`, `{"body":{"humidity":1}}`, `{"body":{"temperature":32,"misbehave":"look"}}`)
		if err != nil || len(got) != 3 || got[0] != `{"body":{"temperature":100}}` || got[1] != "" || !strings.Contains(got[2], `"temperature":0`) {
			t.Errorf("%q, %v", got, err)
		}
	})
	for what, says := range map[string]string{
		"panic": "as asked", "hang": "took longer than 2s", "memory": "processor failed", "flood": "wrote more than", "twice": "2 lines for 1 messages",
	} {
		t.Run(what, func(t *testing.T) {
			_, err := run(t, p, `{"body":{"misbehave":"`+what+`","temperature":1}}`)
			if !problem.Is(err, problem.Invalid) || !strings.Contains(err.Error(), says) {
				t.Errorf("%v, not %s", err, says)
			}
		})
	}
	t.Run("goes on after all that, for several at once", func(t *testing.T) {
		var together sync.WaitGroup
		for range 4 {
			together.Go(func() {
				if got, err := run(t, p, `{"body":{"temperature":50}}`); err != nil || got[0] != `{"body":{"temperature":10}}` {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
		together.Wait()
	})
	t.Run("ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if _, err := p.Run(ctx, [][]byte{[]byte(`{"body":{"misbehave":"hang"}}`)}); !problem.Is(err, problem.Internal) || ctx.Err() == nil {
			t.Error(err)
		}
	})
}

func TestWhatIsNoProcessorIsRefused(t *testing.T) {
	for what, module := range map[string][]byte{
		"nothing": nil, "text": []byte("#!/bin/sh"), "too much": make([]byte, processor.MaxModule+1),
		"an import that nobody has": []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x02\x09\x01\x03env\x01f\x00\x00"),
	} {
		p, err := processor.Compile(t.Context(), module, processor.Limits{})
		if err == nil { // an import is looked for when it runs
			_, err = p.Run(t.Context(), [][]byte{[]byte("{}")})
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
		if !problem.Is(err, problem.Invalid) && !problem.Is(err, problem.TooLarge) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// BenchmarkRun is the cost of a batch of a hundred messages.
func BenchmarkRun(b *testing.B) {
	p, err := processor.Compile(b.Context(), build(b), processor.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	messages := make([][]byte, 100)
	for i := range messages {
		messages[i] = []byte(`{"body":{"temperature":50,"humidity":40,"site":"here"},"deviceId":"d","sequence":1}`)
	}
	for b.Loop() {
		if _, err := p.Run(b.Context(), messages); err != nil {
			b.Fatal(err)
		}
	}
}

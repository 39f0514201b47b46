// Package processor runs programs that releases bring for the messages of a
// stamp: WebAssembly modules for WASI preview 1, which see nothing but the
// messages they are given, and may take no more time and memory than they are
// allowed. A program reads one JSON document a line and writes one for each:
// what the message becomes, or an empty line to drop it.
package processor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/slipway/slipway/internal/problem"
)

// Limits bound one run of a program.
type Limits struct {
	Memory int // MiB; 0 is DefaultMemory
	Time   time.Duration
}

// What a program may take where nothing else is said, and at most.
const (
	DefaultMemory = 64
	MaxMemory     = 512
	DefaultTime   = 5 * time.Second
	MaxTime       = time.Minute
	// MaxModule bounds a program in bytes.
	MaxModule = 32 << 20
	// growth is how many times larger messages may become, beyond spare.
	growth = 4
	spare  = 1 << 20
	// maxComplaint bounds what is kept of what a program writes to stderr.
	maxComplaint = 2 << 10
)

const wasmPage = 64 << 10

// Processor is a program ready to run. Several goroutines may.
type Processor struct {
	runtime wazero.Runtime
	module  wazero.CompiledModule
	time    time.Duration
}

// Compile prepares a program.
func Compile(ctx context.Context, module []byte, limits Limits) (*Processor, error) {
	if len(module) > MaxModule {
		return nil, problem.New(problem.TooLarge, "a processor has at most %d bytes, not %d", MaxModule, len(module))
	}
	if limits.Memory == 0 {
		limits.Memory = DefaultMemory
	}
	if limits.Time == 0 {
		limits.Time = DefaultTime
	}
	config := wazero.NewRuntimeConfig().WithMemoryLimitPages(uint32(limits.Memory << 20 / wasmPage)).WithCloseOnContextDone(true)
	p := &Processor{runtime: wazero.NewRuntimeWithConfig(ctx, config), time: limits.Time}
	_, err := wasi_snapshot_preview1.Instantiate(ctx, p.runtime)
	if err == nil {
		p.module, err = p.runtime.CompileModule(ctx, module)
	}
	if err != nil {
		return nil, errors.Join(problem.New(problem.Invalid, "the processor is no WebAssembly module that can run here: %s", err), p.Close())
	}
	return p, nil
}

// Close frees what the program holds.
func (p *Processor) Close() error { return p.runtime.Close(context.Background()) }

// Run gives a program messages and returns what it makes of each; nil is one
// that it drops. An error of kind problem.Invalid is the program's fault with
// these messages, and would come again.
func (p *Processor) Run(ctx context.Context, messages [][]byte) ([][]byte, error) {
	limited, cancel := context.WithTimeout(ctx, p.time)
	defer cancel()
	input := append(bytes.Join(messages, []byte{'\n'}), '\n')
	output := &bounded{most: growth*len(input) + spare, stop: cancel}
	complaint := &bounded{most: maxComplaint}
	config := wazero.NewModuleConfig().WithName("").WithArgs("processor").WithStdin(bytes.NewReader(input)).WithStdout(output).WithStderr(complaint)
	instance, err := p.runtime.InstantiateModule(limited, p.module, config)
	if instance != nil {
		err = errors.Join(err, instance.Close(ctx))
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case output.full:
		return nil, problem.New(problem.Invalid, "the processor wrote more than %d bytes for %d messages", output.most, len(messages))
	case limited.Err() != nil:
		return nil, problem.New(problem.Invalid, "the processor took longer than %s", p.time)
	case failed(err):
		return nil, problem.New(problem.Invalid, "the processor failed: %s", explain(err, complaint))
	}
	return split(output.Bytes(), len(messages))
}

// failed tells a program that ended badly from one that ended.
func failed(err error) bool {
	var exit *sys.ExitError
	return err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 0)
}

func explain(err error, complaint *bounded) string {
	if text := bytes.TrimSpace(complaint.Bytes()); len(text) > 0 {
		return fmt.Sprintf("%q", bytes.ToValidUTF8(text, []byte("?")))
	}
	return fmt.Sprintf("%.200s", err)
}

// split takes the lines of an answer apart, which must be as many as messages.
func split(output []byte, want int) ([][]byte, error) {
	lines := bytes.Split(bytes.TrimSuffix(output, []byte{'\n'}), []byte{'\n'})
	if len(lines) != want {
		return nil, problem.New(problem.Invalid, "the processor wrote %d lines for %d messages; it writes one for each, an empty one to drop it", len(lines), want)
	}
	for i, line := range lines {
		if lines[i] = bytes.TrimSpace(line); len(lines[i]) == 0 {
			lines[i] = nil
		}
	}
	return lines, nil
}

// bounded is a buffer that keeps no more than it may and drops the rest. Where
// that must not be, stop ends who writes.
type bounded struct {
	bytes.Buffer
	most int
	full bool
	stop func()
}

// Write keeps what there is room for.
func (b *bounded) Write(text []byte) (int, error) {
	room := min(b.most-b.Len(), len(text))
	if room < len(text) && !b.full {
		b.full = true
		if b.stop != nil {
			b.stop()
		}
	}
	b.Buffer.Write(text[:room])
	return len(text), nil
}

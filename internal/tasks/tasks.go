// Package tasks runs the long-lived parts of a process: all of them until one
// fails or the context ends, each waited for, a panic turned into an error.
package tasks

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// Task is a named part. Run blocks until ctx ends or the part fails, and
// leaves no goroutine behind.
type Task struct {
	Name string
	Run  func(ctx context.Context) error
}

// Run runs all tasks and returns when all have returned. The first failure
// ends the others and is the result; the end of ctx is no failure.
func Run(ctx context.Context, all ...Task) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	failures := make([]error, len(all))
	for i, task := range all {
		running.Go(func() {
			err := guard(ctx, task)
			if err != nil && !(errors.Is(err, context.Canceled) && ctx.Err() != nil) {
				failures[i] = fmt.Errorf("%s: %w", task.Name, err)
				cancel(failures[i])
			}
		})
	}
	running.Wait()
	return errors.Join(failures...)
}

func guard(ctx context.Context, task Task) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return task.Run(ctx)
}

package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/datadir"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// restartAfter is how soon a local stamp that ended is started again.
const restartAfter = 3 * time.Second

// localStamps is the driver of control in a process of its own. Stamps that are
// declared as local it starts on this machine, in processes that outlive it,
// and starts again when they end; the others come by themselves.
type localStamps struct {
	*process
	// token makes the token by which a stamp joins, and api is where.
	token func(ctx context.Context, stamp string) (string, error)
	api   string
	again func() // has control look at its stamps again

	mu      sync.Mutex
	started map[string]time.Time
}

// Ensure starts a local stamp if it does not run. The host is the stamp's own
// to tell, unless people say it.
func (l *localStamps) Ensure(ctx context.Context, s link.Stamp) (string, error) {
	if !s.Local {
		return s.Host, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	dir := l.dir(s.Name)
	running, err := datadir.Locked(dir)
	if err != nil || running || l.now().Sub(l.started[s.Name]) < restartAfter {
		return s.Host, err
	}
	config, err := l.configure(ctx, dir, s)
	if err != nil {
		return "", err
	}
	l.started[s.Name] = l.now()
	l.Logger.Info("starting a local stamp", "stamp", s.Name, "config", config)
	return s.Host, l.spawn(dir, config)
}

func (l *localStamps) dir(stamp string) string { return filepath.Join(l.Config.Data, "stamps", stamp) }

// configure writes the stamp's configuration, once: people may change it.
func (l *localStamps) configure(ctx context.Context, dir string, s link.Stamp) (string, error) {
	file := filepath.Join(dir, "stamp.yaml")
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		return file, err
	}
	others, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	if len(others) > maxLocalStamps {
		return "", problem.New(problem.Conflict, "one machine runs at most %d local stamps", maxLocalStamps)
	}
	token, err := l.token(ctx, s.Name)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "join-token"), []byte(token+"\n"), 0o600); err != nil {
		return "", err
	}
	host := fmt.Sprintf("%s.%d", l.Config.Local.Network, len(others)) // the directory itself is among them
	text := fmt.Sprintf(`# Written when control first started the stamp; it is yours to change.
plane: stamp
name: %s
data: .
hosts: [%s]
listen: { mqtts: "%[2]s:8883", https: "%[2]s:8443", amqps: "%[2]s:5671" }
join: { control: %q, tokenFile: join-token }
`, s.Name, host, l.api)
	return file, os.WriteFile(file, []byte(text), 0o600)
}

const maxLocalStamps = 250

// spawn starts a stamp's process in a session of its own, so that it does not
// end with this one.
func (l *localStamps) spawn(dir, config string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	command := exec.Command(program, "serve", "stamp", "--config", config)
	command.Stdout, command.Stderr, command.SysProcAttr = log, log, detached()
	if err := errors.Join(command.Start(), log.Close()); err != nil {
		return fmt.Errorf("start stamp: %w", err)
	}
	go func() {
		if err := command.Wait(); err != nil {
			l.Logger.Warn("a local stamp has ended; it is started again", "config", config, "error", err)
		}
		time.AfterFunc(restartAfter, l.again)
	}()
	return nil
}

// Remove ends a local stamp. Its directory stays: deleting data is not a thing
// a reconcile loop does.
func (l *localStamps) Remove(_ context.Context, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	dir := l.dir(name)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	running, err := datadir.Locked(dir)
	if err != nil || !running {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "ready.json"))
	if err != nil {
		return err
	}
	var r Ready
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	return terminate(r.PID)
}

package up

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/entrance"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp"
	"github.com/slipway/slipway/internal/stamp/ddi"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

// defaultMQTTS is the port devices assume when the host they are told bears none.
const defaultMQTTS = 8883

// maxLocalStamps is how many stamps have a loopback address of their own.
const maxLocalStamps = 250

// localStamps runs stamps inside this process; it is the driver control asks
// to bring stamps about.
type localStamps struct {
	in       *installation
	file     string
	starting chan *localStamp

	mu      sync.Mutex
	running map[string]*localStamp
	numbers map[string]int // each stamp's own loopback address, kept over restarts
}

// localStamp is one of them.
type localStamp struct {
	spec  link.Stamp
	stamp *stamp.Stamp
	host  string // what devices are told, without a port
	ports entrance.Ports
	stop  chan struct{} // closed to end it
	done  chan struct{} // closed when it has ended
}

func (in *installation) newLocalStamps() (*localStamps, error) {
	ls := &localStamps{
		in: in, file: filepath.Join(in.Data, "stamps", "addresses.json"), starting: make(chan *localStamp, maxLocalStamps),
		running: map[string]*localStamp{}, numbers: map[string]int{},
	}
	if err := os.MkdirAll(filepath.Dir(ls.file), 0o700); err != nil {
		return nil, err
	}
	kept, err := os.ReadFile(ls.file)
	if errors.Is(err, os.ErrNotExist) {
		return ls, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(kept, &ls.numbers); err != nil {
		return nil, fmt.Errorf("%s: %w", ls.file, err)
	}
	return ls, nil
}

// Ensure starts the stamp if it does not run yet and returns the host devices
// are told.
func (ls *localStamps) Ensure(ctx context.Context, spec link.Stamp) (string, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if local := ls.running[spec.Name]; local != nil {
		if spec.Host != "" {
			local.host = spec.Host
			ls.in.ca.Name(spec.Host)
		}
		local.spec = spec
		local.stamp.SetHosts(local.names())
		return local.told(), nil
	}
	local, err := ls.open(ctx, spec)
	if err != nil {
		return "", err
	}
	ls.running[spec.Name] = local
	ls.starting <- local
	return local.told(), nil
}

func (ls *localStamps) open(ctx context.Context, spec link.Stamp) (*localStamp, error) {
	number, err := ls.number(spec.Name)
	if err != nil {
		return nil, err
	}
	local := &localStamp{spec: spec, stop: make(chan struct{}), done: make(chan struct{})}
	if err := ls.listen(local, number); err != nil {
		return nil, err
	}
	if spec.Host != "" {
		local.host = spec.Host
	}
	ls.in.ca.Name(local.host)
	conn, err := ls.in.connect("stamp-" + spec.Name)
	if err != nil {
		return nil, err
	}
	at, err := ls.in.database("stamp-" + spec.Name)
	if err != nil {
		return nil, err
	}
	local.stamp, err = stamp.New(ctx, stamp.Options{
		Version: ls.in.Version,
		Name:    spec.Name, Dir: filepath.Join(ls.in.Data, "stamps", spec.Name), Database: at, SealingKeys: ls.in.SealingKeys, Link: conn,
		Limits: hub.DefaultLimits, Connections: entrance.Connections(0), Retention: telemetry.DefaultRetention,
		Guard: ls.in.guard, Archive: filepath.Join(ls.in.Data, "archive"), Logger: ls.in.Logger.With("plane", "stamp"), Now: time.Now,
		UpdateClients: ddi.Settings{Poll: ls.in.UpdatePoll},
	})
	if err != nil {
		return nil, err
	}
	local.stamp.SetHosts(local.names())
	return local, nil
}

// listen opens the doors of a stamp. On Linux every address in 127.0.0.0/8
// works, so each stamp gets one, and SDKs that cannot be given a port find it
// on the usual one. Elsewhere it gets ports of its own, unless it has a host
// name, by which connections to the shared ports are told apart.
func (ls *localStamps) listen(local *localStamp, number int) (err error) {
	in, own := ls.in, "127.0.1."+strconv.Itoa(number)
	local.ports = in.ports
	switch {
	case in.everywhere && (runtime.GOOS == "linux" || local.spec.Host != ""):
		local.host = own
		return nil
	case isLoopback(in.mqttHost) && runtime.GOOS == "linux":
		local.host = own
	case local.spec.Host != "":
		return nil
	default:
		local.host = in.mqttHost
		local.ports = entrance.Ports{MQTT: in.ports.MQTT + number, HTTPS: in.ports.HTTPS + number, AMQP: in.ports.AMQP + number, AnyAMQP: in.ports.AnyAMQP}
	}
	local.ports, err = in.entrance.Listen(local.host, local.ports)
	return err
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// number gives each stamp a number it keeps.
func (ls *localStamps) number(name string) (int, error) {
	if n, ok := ls.numbers[name]; ok {
		return n, nil
	}
	taken := map[int]bool{}
	for _, n := range ls.numbers {
		taken[n] = true
	}
	for n := 1; n <= maxLocalStamps; n++ {
		if taken[n] {
			continue
		}
		ls.numbers[name] = n
		text, err := json.Marshal(ls.numbers)
		if err != nil {
			return 0, err
		}
		draft := ls.file + ".tmp"
		if err := os.WriteFile(draft, text, 0o600); err != nil {
			return 0, err
		}
		return n, os.Rename(draft, ls.file)
	}
	return 0, problem.New(problem.Conflict, "one process runs at most %d stamps", maxLocalStamps)
}

// told is the host as devices are told it.
func (l *localStamp) told() string {
	if l.ports.MQTT == defaultMQTTS {
		return l.host
	}
	return net.JoinHostPort(l.host, strconv.Itoa(l.ports.MQTT))
}

// names are all names a device may use for the stamp in user name and token.
func (l *localStamp) names() []string {
	return []string{l.host, net.JoinHostPort(l.host, strconv.Itoa(l.ports.MQTT)), net.JoinHostPort(l.host, strconv.Itoa(l.ports.HTTPS)), l.spec.Name}
}

// Remove stops a stamp. Its directory stays: deleting data is not a thing a
// reconcile loop does.
func (ls *localStamps) Remove(ctx context.Context, name string) error {
	ls.mu.Lock()
	local := ls.running[name]
	delete(ls.running, name)
	ls.mu.Unlock()
	if local == nil {
		return nil
	}
	close(local.stop)
	select {
	case <-local.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// byHost finds the stamp that answers to the host of a user name.
func (ls *localStamps) byHost(host string) *localStamp {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, local := range ls.running {
		for _, name := range local.names() {
			if strings.EqualFold(name, host) {
				return local
			}
		}
	}
	return nil
}

// all returns the stamps in order of environment and name.
func (ls *localStamps) all() []*localStamp {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var all []*localStamp
	for _, local := range ls.running {
		all = append(all, local)
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := all[i].spec, all[j].spec
		return a.Environment > b.Environment || a.Environment == b.Environment && a.Name < b.Name
	})
	return all
}

// retire has every stamp tell its devices when to come back.
func (ls *localStamps) retire() {
	var parts sync.WaitGroup
	for _, local := range ls.all() {
		parts.Go(local.stamp.Retire)
	}
	parts.Wait()
}

// Run runs the stamps Ensure opens until ctx ends or one of them fails.
func (ls *localStamps) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	defer parts.Wait()
	for {
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
				return cause
			}
			return nil
		case local := <-ls.starting:
			parts.Go(func() {
				if err := local.run(ctx); err != nil {
					cancel(fmt.Errorf("stamp %s: %w", local.spec.Name, err))
				}
			})
		}
	}
}

// run runs one stamp until ctx ends or Remove stops it.
func (l *localStamp) run(ctx context.Context) error {
	defer close(l.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-l.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return errors.Join(l.stamp.Run(ctx), l.stamp.Close())
}

// close closes stamps that were opened and never run.
func (ls *localStamps) close() error {
	var failures []error
	for {
		select {
		case local := <-ls.starting:
			failures = append(failures, local.stamp.Close())
		default:
			return errors.Join(failures...)
		}
	}
}

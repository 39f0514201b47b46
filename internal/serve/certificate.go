package serve

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookEvery is how often the files of a certificate are looked at.
const lookEvery = 10 * time.Second

// files gives the certificate in two files, and the new one when they change.
// While that cannot be read, the old one stays.
type files struct {
	TLS
	logger *slog.Logger
	now    func() time.Time

	mu     sync.Mutex
	looked time.Time
	change time.Time
	kept   *tls.Certificate
}

func openFiles(t TLS, logger *slog.Logger, now func() time.Time) (*files, error) {
	f := &files{TLS: t, logger: logger, now: now}
	_, err := f.get(nil)
	return f, err
}

func (f *files) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept != nil && f.now().Sub(f.looked) < lookEvery {
		return f.kept, nil
	}
	f.looked = f.now()
	info, err := os.Stat(f.Certificate)
	if err == nil && (f.kept == nil || !info.ModTime().Equal(f.change)) {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(f.Certificate, f.Key); err == nil {
			f.kept, f.change = &pair, info.ModTime()
		}
	}
	if err != nil && f.kept == nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if err != nil {
		f.logger.Warn("the certificate's files cannot be read; the last one stays", "error", err)
	}
	return f.kept, nil
}

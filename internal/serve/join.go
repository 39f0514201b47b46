package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/peer"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/tasks"
)

// A process that cannot reach control tries again, ever more slowly.
const (
	joinFirst = 500 * time.Millisecond
	joinMost  = 15 * time.Second
)

// join returns the process's identity: the one it has, or a new one that
// control gives it for a token. It waits for control where that is away.
func (p *process) join(ctx context.Context, as string) (*peer.Identity, error) {
	identity, found, err := peer.Open(p.Config.Data)
	if err != nil {
		return nil, err
	}
	if found && identity.Peer() != as {
		return nil, problem.New(problem.Conflict, "%s is the data directory of %s, not of %s; give each its own", p.Config.Data, identity.Peer(), as)
	}
	if found && p.now().Before(identity.RenewAt()) && identity.Covers(p.Config.Hosts) {
		return identity, nil
	}
	request, err := peer.NewRequest()
	if err != nil {
		return nil, err
	}
	for wait := joinFirst; ; wait = min(2*wait, joinMost) {
		joined, err := p.ask(ctx, identity, found, request)
		switch {
		case err == nil && joined.Peer != as:
			return nil, problem.New(problem.Denied, "the token lets a process join as %s, and this is %s", joined.Peer, as)
		case err == nil:
			p.Logger.Info("joined", "peer", joined.Peer, "servers", joined.Servers)
			return identity, identity.Take(request, joined)
		case found && problem.Is(err, problem.NotReady) && identity.Covers(p.Config.Hosts):
			p.Logger.Warn("the certificate is due for renewal and control is away", "error", err)
			return identity, nil
		case !problem.Is(err, problem.NotReady) && !problem.Is(err, problem.Busy):
			return nil, err
		}
		p.Logger.Warn("control cannot be reached; trying again", "in", wait, "error", err)
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

// ask has a certificate signed: for the one the process has, or for a token.
func (p *process) ask(ctx context.Context, identity *peer.Identity, renew bool, request peer.Request) (link.Joined, error) {
	req := link.Join{Hosts: p.Config.Hosts, CSR: request.CSR}
	var config *tls.Config
	if renew {
		config = identity.RenewTLS()
	} else {
		token, err := p.token()
		if err != nil {
			return link.Joined{}, err
		}
		req.Token = token
		config = peer.PinnedTLS(token)
	}
	if p.Config.Join.CA != "" {
		trusted, err := trust(p.Config.Join.CA)
		if err != nil {
			return link.Joined{}, err
		}
		config = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusted, GetClientCertificate: config.GetClientCertificate}
	}
	c, err := client.New(client.Options{URL: p.Config.Join.Control, TLS: config, Timeout: 20 * time.Second})
	if err != nil {
		return link.Joined{}, problem.Of(err).At("join.control")
	}
	return c.Join(ctx, req)
}

// trust is the system's authorities and the one in a file.
func trust(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, invalid("join.ca", "%s", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // the machine has none
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, invalid("join.ca", "%s holds no PEM certificate", file)
	}
	return pool, nil
}

func (p *process) token() (string, error) {
	if p.Config.Join.Token != "" {
		return p.Config.Join.Token, nil
	}
	if p.Config.Join.TokenFile != "" {
		text, err := os.ReadFile(p.Config.Join.TokenFile)
		if err != nil {
			return "", invalid("join.tokenFile", "%s", err)
		}
		return strings.TrimSpace(string(text)), nil
	}
	if p.JoinToken == "" {
		return "", invalid("join.token", "is missing, and so is SLIPWAY_JOIN_TOKEN; `slipway stamp token NAME` or `slipway provisioning token` makes one")
	}
	return p.JoinToken, nil
}

// renewEvery is how often it is looked whether the certificate is due.
const renewEvery = time.Hour

// keepRenewed renews the certificate in time, until ctx ends.
func (p *process) keepRenewed(identity *peer.Identity) func(context.Context) error {
	return func(ctx context.Context) error {
		return tasks.Every(ctx, renewEvery, func() {
			if p.now().Before(identity.RenewAt()) {
				return
			}
			if err := p.renew(ctx, identity); err != nil {
				p.Logger.Warn("the certificate was not renewed; trying again", "error", err)
			}
		})
	}
}

func (p *process) renew(ctx context.Context, identity *peer.Identity) error {
	request, err := peer.NewRequest()
	if err != nil {
		return err
	}
	joined, err := p.ask(ctx, identity, true, request)
	if err != nil {
		return err
	}
	return identity.Take(request, joined)
}

// keepCA writes the installation's authority down, for devices to trust.
func (p *process) keepCA(identity *peer.Identity) (string, error) {
	file := filepath.Join(p.Config.Data, "ca.pem")
	return file, os.WriteFile(file, identity.CA(), 0o644)
}

// Package membership decides which processes may be on the link: it makes the
// tokens by which they join, has their certificates signed, renewed and
// revoked, and tells the link's servers whom to let in.
package membership

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Authority signs certificates. It is the installation's.
type Authority interface {
	Sign(csr *x509.CertificateRequest, common string, names []string, uri *url.URL) (*x509.Certificate, error)
	Verify(certificate *x509.Certificate) error
	DER() []byte
}

// Options are what a Membership is built from.
type Options struct {
	DB        *sqldb.DB
	Audit     *audit.Log
	Authority Authority
	// URI and Name are how certificates name peers.
	URI  func(peer string) *url.URL
	Name func(*x509.Certificate) (string, error)
	// Servers are the link's servers in this process and Routes where others
	// join them, as host:port.
	Servers, Routes []string
	// Own are this process's hosts, which nobody else gets a certificate for.
	Own []string
	Now func() time.Time
	// Raise has the directory go out anew, with what is revoked.
	Raise func(ctx context.Context, tx *sqldb.Tx) error
	// Cut ends the connections of a certificate that was revoked.
	Cut func(serial string)
}

// Membership are the peers of an installation.
type Membership struct {
	Options

	mu      sync.Mutex
	revoked map[string]bool // by serial
}

// Open reads who was revoked.
func Open(ctx context.Context, o Options) (*Membership, error) {
	m := &Membership{Options: o, revoked: map[string]bool{}}
	serials, err := sqldb.Rows(ctx, o.DB, func(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) },
		"SELECT serial FROM peer_certificate WHERE revoked_at IS NOT NULL AND not_after > ?", sqldb.Micros(o.Now()))
	for _, serial := range serials {
		m.revoked[serial] = true
	}
	return m, err
}

// PeerCertificate is one that was signed for a process of a peer.
type PeerCertificate struct {
	Serial    string     `json:"serial"`
	Peer      string     `json:"peer"`
	Hosts     []string   `json:"hosts"`
	IssuedAt  time.Time  `json:"issuedAt"`
	NotAfter  time.Time  `json:"notAfter"`
	RevokedAt *time.Time `json:"revokedAt,omitempty"`
}

// JoinToken lets processes join, until it expires.
type JoinToken struct {
	Token     string    `json:"token" doc:"Shown this once"`
	Peer      string    `json:"peer"`
	Processes int       `json:"processes" doc:"How many may join by it"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// The limits of tokens.
const (
	tokenPrefix  = "slj_"
	DefaultLife  = time.Hour
	maxLife      = 7 * 24 * time.Hour
	maxSecret    = 200
	maxHosts     = 20
	maxUnused    = 1000
	maxProcesses = 100 // that join by one token
	maxPeerCerts = 200 // not yet expired, of one peer
)

var stampPeer = regexp.MustCompile(`^stamp\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// checkPeer says which peers join by a token.
func checkPeer(peer string) error {
	if peer == link.ProvisioningPeer || stampPeer.MatchString(peer) {
		return nil
	}
	return problem.New(problem.Invalid, "a peer is provisioning or stamp.NAME, not %q", peer).At("peer")
}

// NewToken makes a token that lets processes, 0 meaning one, join as a peer. It
// also holds the fingerprint of the authority, so that a process knows whom it
// speaks to.
func (m *Membership) NewToken(ctx context.Context, actor access.Actor, peer string, processes int, life time.Duration) (JoinToken, error) {
	if err := checkPeer(peer); err != nil {
		return JoinToken{}, err
	}
	if life == 0 {
		life = DefaultLife
	}
	if life < time.Minute || life > maxLife {
		return JoinToken{}, problem.New(problem.Invalid, "a join token lives from a minute to %s, not %s", maxLife, life).At("expiresIn")
	}
	processes = max(processes, 1)
	if processes > maxProcesses {
		return JoinToken{}, problem.New(problem.Invalid, "at most %d processes join by one token, not %d", maxProcesses, processes).At("processes")
	}
	secret := tokenPrefix + rand.Text()
	fingerprint := sha256.Sum256(m.Authority.DER())
	now := m.Now().UTC()
	t := JoinToken{secret + "." + base64.RawURLEncoding.EncodeToString(fingerprint[:]), peer, processes, now.Add(life)}
	return t, m.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM join_token WHERE expires_at <= ?", sqldb.Micros(now)); err != nil {
			return err
		}
		n, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int, err error) { return n, rows.Scan(&n) }, "SELECT count(*) FROM join_token")
		if err != nil {
			return err
		}
		if n >= maxUnused {
			return problem.New(problem.Conflict, "there are %d join tokens, the most there may be; they expire by themselves", n)
		}
		if _, err := tx.Exec(ctx, "INSERT INTO join_token (id, peer, hash, created_at, created_by, expires_at, used_by, processes) VALUES (?, ?, ?, ?, ?, ?, '', ?)",
			strings.ToLower(rand.Text()[:12]), peer, hash([]byte(secret)), sqldb.Micros(now), actor.Name, sqldb.Micros(t.ExpiresAt), processes); err != nil {
			return err
		}
		return m.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "peer.token", Object: "peer/" + peer, Outcome: audit.Done, Detail: fmt.Sprintf("for %d, until %s", processes, t.ExpiresAt.Format(time.RFC3339))})
	})
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Join signs the certificate of a process that comes with a token. The same
// process may come again with it, as the answer may not have reached it.
func (m *Membership) Join(ctx context.Context, req link.Join) (joined link.Joined, err error) {
	secret, _, _ := strings.Cut(req.Token, ".")
	if len(req.Token) > maxSecret {
		secret = ""
	}
	if _, err := m.find(ctx, m.DB, secret); err != nil {
		return joined, err // before anything else of a stranger's is read
	}
	csr, err := parseRequest(req)
	if err != nil {
		return joined, err
	}
	key := hash(csr.RawSubjectPublicKeyInfo)
	err = m.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		peer, err := m.redeem(ctx, tx, secret, key)
		if err != nil {
			return err
		}
		joined, err = m.issue(ctx, tx, peer, "join token", csr, req.Hosts)
		return err
	})
	return joined, err
}

// stored is a token as it is kept.
type stored struct {
	id, peer  string
	usedBy    string // hashes of keys, set apart by spaces
	processes int
}

func (m *Membership) find(ctx context.Context, q sqldb.Querier, secret string) (stored, error) {
	r, found, err := sqldb.Row(ctx, q, func(rows *sql.Rows) (r stored, err error) {
		return r, rows.Scan(&r.id, &r.peer, &r.usedBy, &r.processes)
	},
		"SELECT id, peer, used_by, processes FROM join_token WHERE hash = ? AND expires_at > ?", hash([]byte(secret)), sqldb.Micros(m.Now()))
	if err == nil && !found {
		err = problem.New(problem.Unauthenticated, "the join token is not known or has expired; `slipway stamp token NAME` or `slipway provisioning token` makes one").At("token")
	}
	return r, err
}

// redeem uses a token up for a key.
func (m *Membership) redeem(ctx context.Context, tx *sqldb.Tx, secret, key string) (peer string, err error) {
	r, err := m.find(ctx, tx, secret)
	if err != nil {
		return "", err
	}
	used := strings.Fields(r.usedBy)
	if slices.Contains(used, key) {
		return r.peer, nil
	}
	if len(used) >= r.processes {
		return "", problem.New(problem.Denied, "the join token was used by another process; each needs its own, or one made with --processes").At("token")
	}
	_, err = tx.Exec(ctx, "UPDATE join_token SET used_by = ? WHERE id = ?", strings.Join(append(used, key), " "), r.id)
	return r.peer, err
}

// Renew signs a new certificate for a process that came with the one it has.
func (m *Membership) Renew(ctx context.Context, has *x509.Certificate, req link.Join) (joined link.Joined, err error) {
	peer, err := m.Admit(has)
	if err != nil {
		return joined, err
	}
	csr, err := parseRequest(req)
	if err != nil {
		return joined, err
	}
	err = m.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		joined, err = m.issue(ctx, tx, peer, peer, csr, req.Hosts)
		return err
	})
	return joined, err
}

// Admit says which peer a certificate is, unless it was revoked.
func (m *Membership) Admit(certificate *x509.Certificate) (string, error) {
	if err := m.Authority.Verify(certificate); err != nil {
		return "", problem.New(problem.Unauthenticated, "the certificate is not of this installation: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.revoked[certificate.SerialNumber.Text(16)] {
		return "", problem.New(problem.Denied, "the certificate was revoked; join again with a new token")
	}
	return m.Name(certificate)
}

func parseRequest(req link.Join) (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil {
		return nil, problem.New(problem.Invalid, "the certificate signing request cannot be read: %w", err).At("csr")
	}
	if len(req.Hosts) > maxHosts {
		return nil, problem.New(problem.Invalid, "a certificate is for at most %d hosts, not %d", maxHosts, len(req.Hosts)).At("hosts")
	}
	for _, host := range req.Hosts {
		if net.ParseIP(host) == nil && !hostName.MatchString(strings.ToLower(host)) {
			return nil, problem.New(problem.Invalid, "%q is neither a host name nor an address", host).At("hosts")
		}
	}
	return csr, nil
}

var hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// issue signs a certificate, if no other peer has any of the hosts.
func (m *Membership) issue(ctx context.Context, tx *sqldb.Tx, peer, by string, csr *x509.CertificateRequest, hosts []string) (link.Joined, error) {
	others, err := sqldb.Rows(ctx, tx, scanCertificate, selectCertificates+" WHERE revoked_at IS NULL AND not_after > ?", sqldb.Micros(m.Now()))
	if err != nil {
		return link.Joined{}, err
	}
	if err := m.free(peer, hosts, others); err != nil {
		return link.Joined{}, err
	}
	certificate, err := m.Authority.Sign(csr, peer, hosts, m.URI(peer))
	if err != nil {
		return link.Joined{}, problem.New(problem.Invalid, "%w", err).At("csr")
	}
	text, err := json.Marshal(hosts)
	if err != nil {
		return link.Joined{}, err
	}
	serial := certificate.SerialNumber.Text(16)
	if _, err := tx.Exec(ctx, "INSERT INTO peer_certificate (serial, peer, hosts, issued_at, not_after) VALUES (?, ?, ?, ?, ?)",
		serial, peer, string(text), sqldb.Micros(m.Now()), sqldb.Micros(certificate.NotAfter)); err != nil {
		return link.Joined{}, err
	}
	err = m.Audit.Record(ctx, tx, audit.Entry{Actor: by, Action: "peer.certify", Object: "peer/" + peer, Outcome: audit.Done, Detail: serial + " for " + strings.Join(hosts, ", ")})
	return link.Joined{Peer: peer, Certificate: certificate.Raw, CA: m.Authority.DER(), Servers: m.Servers, Routes: m.Routes}, err
}

// free refuses hosts that others have: devices and peers trust a certificate
// by its host. Processes on one machine may share its loopback addresses.
func (m *Membership) free(peer string, hosts []string, others []PeerCertificate) error {
	mine := 0
	for _, other := range others {
		if other.Peer == peer {
			mine++
		}
	}
	if mine >= maxPeerCerts {
		return problem.New(problem.Conflict, "%s has %d certificates that are good, the most it may have; revoke some: slipway peer revoke", peer, mine)
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost") {
			continue
		}
		same := func(name string) bool { return strings.EqualFold(name, host) }
		if slices.ContainsFunc(m.Own, same) {
			return problem.New(problem.Conflict, "%s is control's own host", host).At("hosts")
		}
		for _, other := range others {
			if other.Peer != peer && slices.ContainsFunc(other.Hosts, same) {
				return problem.New(problem.Conflict, "%s is a host of %s; revoke its certificate %s first if that is gone", host, other.Peer, other.Serial).At("hosts")
			}
		}
	}
	return nil
}

const selectCertificates = "SELECT serial, peer, hosts, issued_at, not_after, revoked_at FROM peer_certificate"

func scanCertificate(rows *sql.Rows) (c PeerCertificate, err error) {
	var hosts string
	var issued, until int64
	var revoked sql.NullInt64
	if err := rows.Scan(&c.Serial, &c.Peer, &hosts, &issued, &until, &revoked); err != nil {
		return c, err
	}
	c.IssuedAt, c.NotAfter, c.RevokedAt = sqldb.Time(issued), sqldb.Time(until), sqldb.NullTime(revoked)
	return c, json.Unmarshal([]byte(hosts), &c.Hosts)
}

// List returns the certificates that have not expired, newest first.
func (m *Membership) List(ctx context.Context) ([]PeerCertificate, error) {
	return sqldb.Rows(ctx, m.DB, scanCertificate, selectCertificates+" WHERE not_after > ? ORDER BY issued_at DESC, serial", sqldb.Micros(m.Now()))
}

// Revoke ends a certificate, and the connections that its owner has.
func (m *Membership) Revoke(ctx context.Context, actor access.Actor, serial string) error {
	// Before the directory goes out anew, so that it is in there.
	m.mark(serial, true)
	err := m.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE peer_certificate SET revoked_at = ? WHERE serial = ? AND revoked_at IS NULL", sqldb.Micros(m.Now()), serial)
		if err == nil && n == 0 {
			err = problem.New(problem.NotFound, "there is no certificate %q that is good", serial)
		}
		if err == nil {
			err = m.Raise(ctx, tx)
		}
		if err != nil {
			return err
		}
		return m.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "peer.revoke", Object: "certificate/" + serial, Outcome: audit.Done})
	})
	if err != nil {
		m.mark(serial, false)
		return err
	}
	m.Cut(serial)
	return nil
}

func (m *Membership) mark(serial string, revoked bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if revoked {
		m.revoked[serial] = true
		return
	}
	delete(m.revoked, serial)
}

// Revoked are the serials of all certificates that were revoked and have not
// expired, for servers of the link elsewhere.
func (m *Membership) Revoked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]string, 0, len(m.revoked))
	for serial := range m.revoked {
		all = append(all, serial)
	}
	slices.Sort(all)
	return all
}

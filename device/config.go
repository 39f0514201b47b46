package device

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/device/retry"
)

// Config is what a device is built with.
type Config struct {
	Provisioning   string // host, or host:port
	IDScope        string
	RegistrationID string

	Key         []byte           // symmetric key, of the device itself; see DeriveKey
	Certificate *tls.Certificate // or an X.509 certificate with its key

	CA   *x509.CertPool // whom to trust; nil is the system's
	Port int            // of hosts that bear none; default 8883
	// HTTPSPort is the port of the hub's HTTPS API, which Fetch asks; default 443.
	HTTPSPort int
	ModelID   string       // digital twin model, told to the hub
	Store     Store        // keeps the assignment and the retry state; default in memory
	Policy    retry.Policy // what is zero is taken from retry.Default
	Queue     int          // telemetry messages kept while offline, oldest dropped first; default 1000
	Logger    *slog.Logger // default none

	// Dial opens connections; default net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Clock is what the device takes for the time when it makes tokens; default
	// time.Now.
	Clock func() time.Time
	// TokenLife is how long a token is valid, at least a second; the connection
	// is renewed after four fifths of it. Default one hour.
	TokenLife time.Duration
	// KeepAlive is how long the connection may be silent, from a second to
	// 1177 s. Default one minute.
	KeepAlive time.Duration
	// Chance makes the device's randomness of its registration and boot; the
	// default adds the system's own, as a device without a store always boots
	// for the first time.
	Chance func(registration string, boot uint64) *rand.Rand
}

// maxKeepAlive is the longest a hub waits for, divided by one and a half.
const maxKeepAlive = 1177 * time.Second

// complete checks the configuration and fills in defaults.
func (c *Config) complete() error {
	c.defaults()
	switch {
	case c.Provisioning == "" || c.IDScope == "" || c.RegistrationID == "":
		return errors.New("device: Provisioning, IDScope and RegistrationID are required")
	case (len(c.Key) == 0) == (c.Certificate == nil):
		return errors.New("device: exactly one of Key and Certificate is required")
	case c.TokenLife < time.Second:
		return fmt.Errorf("device: TokenLife is %s, less than a second", c.TokenLife)
	case c.KeepAlive < time.Second || c.KeepAlive > maxKeepAlive:
		return fmt.Errorf("device: KeepAlive is %s, not between 1s and %s", c.KeepAlive, maxKeepAlive)
	case c.Queue < 1:
		return fmt.Errorf("device: Queue is %d, which keeps nothing", c.Queue)
	case c.Port < 1 || c.Port > 65535 || c.HTTPSPort < 1 || c.HTTPSPort > 65535:
		return fmt.Errorf("device: Port is %d and HTTPSPort %d: a port is between 1 and 65535", c.Port, c.HTTPSPort)
	}
	return nil
}

func (c *Config) defaults() {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	c.Policy = c.Policy.Complete()
	if c.Port == 0 {
		c.Port = 8883
	}
	if c.HTTPSPort == 0 {
		c.HTTPSPort = 443
	}
	if c.Store == nil {
		c.Store = &MemoryStore{}
	}
	if c.Queue == 0 {
		c.Queue = 1000
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Dial == nil {
		dialer := &net.Dialer{Timeout: 20 * time.Second}
		c.Dial = dialer.DialContext
	}
	if c.TokenLife == 0 {
		c.TokenLife = time.Hour
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = time.Minute
	}
	if c.Chance == nil {
		c.Chance = func(registration string, boot uint64) *rand.Rand { return retry.Seed(registration, boot^rand.Uint64()) }
	}
}

// address splits a host as provisioning spells it into a name for TLS and an
// address to dial.
func (c *Config) address(host string) (name, address string) {
	if name, port, err := net.SplitHostPort(host); err == nil {
		return name, net.JoinHostPort(name, port)
	}
	name = strings.Trim(host, "[]")
	return name, net.JoinHostPort(name, strconv.Itoa(c.Port))
}

package serve

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/blob"
	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control"
	"github.com/slipway/slipway/internal/entrance"
	"github.com/slipway/slipway/internal/inbound"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/telemetry"
	"github.com/slipway/slipway/internal/stamp/throttle"
	"github.com/slipway/slipway/internal/trail"
	"github.com/slipway/slipway/internal/vault"
)

// The planes a process can be of.
const (
	Control      = "control"
	Provisioning = "provisioning"
	Stamp        = "stamp"
)

// Config is a process's configuration file.
type Config struct {
	Plane string `json:"plane"`          // control, provisioning or stamp
	Name  string `json:"name,omitempty"` // of a stamp
	Data  string `json:"data"`           // directory of everything that must survive a restart
	// Database is the URL of a PostgreSQL database; empty means SQLite in Data.
	Database string `json:"database,omitempty"`
	// Standby has the process wait while another one works on the database, and
	// follow it once that is gone.
	Standby bool `json:"standby,omitempty"`
	// Hosts are the names and addresses by which others reach the process; the
	// first is what they are told.
	Hosts  []string `json:"hosts,omitempty"`
	Listen Listen   `json:"listen,omitzero"`
	TLS    TLS      `json:"tls,omitzero"`
	Link   Link     `json:"link,omitzero"`
	Join   Join     `json:"join,omitzero"`
	// SealingKeys says where the keys come from that seal the database's secrets:
	// file:PATH, credential:NAME or command:PROGRAM ARGUMENT…; a file in data where
	// it is not there.
	SealingKeys string `json:"sealingKeys,omitempty"`
	// AllowFrom are the networks from which each door may be used: people,
	// devices, mqtt, amqp, metrics. One without a list is open to all.
	AllowFrom map[string][]string `json:"allowFrom,omitempty"`
	// Networks are private networks that routes, webhooks and gates may reach.
	Networks []string `json:"networks,omitempty"`
	// Prometheus is the URL of what control's gates ask that name none.
	Prometheus string `json:"prometheus,omitempty"`
	// Metrics bounds what control keeps of what all planes count.
	Metrics Metrics `json:"metrics,omitzero"`
	// Journal bounds what control keeps of what all processes say.
	Journal Metrics `json:"journal,omitzero"`
	// Probes says how often control tries each stamp as by a device.
	Probes Probes `json:"probes,omitzero"`
	// Trail says where else what the process says goes.
	Trail Trail `json:"trail,omitzero"`
	// OIDC is the identity provider that vouches for people at control.
	OIDC *control.Provider `json:"oidc,omitempty"`
	// Provisioning is where devices register, host:port, for control to show.
	Provisioning string `json:"provisioning,omitempty"`
	Local        Local  `json:"local,omitzero"`
	// Artifacts says where control keeps the files of releases.
	Artifacts Artifacts `json:"artifacts,omitzero"`
	// Backups says where control has backups of every plane kept, and who
	// decrypts them.
	Backups *vault.Config `json:"backups,omitempty"`
	// Audit says who keeps the checkpoints of control's audit log.
	Audit Audit `json:"audit,omitzero"`
	// Limits bound what a stamp takes on; what is left out is as usual.
	Limits link.StampLimits `json:"limits,omitzero"`
	// Operations are how many operations of each kind a stamp takes a second; 0 is
	// no limit, and what is left out is as usual.
	Operations throttle.Rates `json:"operations,omitempty"`
	// UpdateClients are those of a stamp that speak hawkBit's protocol.
	UpdateClients UpdateClients `json:"updateClients,omitzero"`
	// Cluster makes the process one of several that are one stamp.
	Cluster Cluster `json:"cluster,omitzero"`
	Log     Log     `json:"log,omitzero"`
	dir     string  // where the file is
}

// Artifacts says where the files of releases are, and how much of them there
// may be.
type Artifacts struct {
	Directory     string `json:"directory,omitempty"`     // empty is one in Data
	S3            *S3    `json:"s3,omitempty"`            // instead of a directory
	FileBytes     int64  `json:"fileBytes,omitempty"`     // of one file at most
	ArtifactBytes int64  `json:"artifactBytes,omitempty"` // of all together at most
}

// Audit says who keeps the checkpoints of the audit log, out of reach of who
// runs control.
type Audit struct {
	Witnesses []string `json:"witnesses,omitempty"` // files by their whole path, and URLs
	S3        *S3      `json:"s3,omitempty"`        // a bucket, such as one whose objects cannot be changed
}

// S3 is a bucket of a store that speaks the S3 protocol.
type S3 struct {
	Endpoint      string `json:"endpoint"` // URL of the store
	Bucket        string `json:"bucket"`
	Prefix        string `json:"prefix,omitempty"`
	Region        string `json:"region,omitempty"`
	AccessKey     string `json:"accessKey"`
	SecretKeyFile string `json:"secretKeyFile"`
}

// Local says where stamps are that control starts on its own machine.
type Local struct {
	Network string `json:"network,omitempty"` // the first three numbers of their loopback addresses
}

// UpdateClients says what a stamp tells its update clients, and how it reads
// what they say; what is left out is as usual.
type UpdateClients struct {
	PollSeconds int               `json:"pollSeconds,omitempty"` // how long a client waits before it looks again
	Hardware    []string          `json:"hardware,omitempty"`    // attributes that name a device's kind of hardware
	Versions    map[string]string `json:"versions,omitempty"`    // software by the attribute that says its version
}

// Cluster is what the processes of a stamp share, beside a PostgreSQL database.
type Cluster struct {
	Process string `json:"process,omitempty"` // what people know this one as; empty is the machine's name
	Files   string `json:"files,omitempty"`   // directory of files from devices, the same for all
	NATS    NATS   `json:"nats,omitzero"`
}

// NATS are the servers that keep the log of a stamp of several processes: servers
// that run elsewhere, or one in each of the processes.
type NATS struct {
	// Listen is where the process keeps one of the servers itself, host:port for
	// the others; empty where they run elsewhere.
	Listen string `json:"listen,omitempty"`
	// Servers are tls://host:port, or nats:// on loopback; and host:port, one of
	// them this process's, with Listen.
	Servers     []string `json:"servers,omitempty"`
	Replicas    int      `json:"replicas,omitempty"`
	Credentials string   `json:"credentials,omitempty"` // file of NATS credentials
	CA          string   `json:"ca,omitempty"`          // PEM file of the servers' authority, if that is not a public one
	Certificate string   `json:"certificate,omitempty"` // PEM files by which the servers know the process
	Key         string   `json:"key,omitempty"`
}

// Metrics bounds what control keeps of what all planes count, where it is not a
// Prometheus elsewhere that does.
type Metrics struct {
	Days  float64 `json:"days,omitempty"`  // how long; 0 is 31
	Bytes int64   `json:"bytes,omitempty"` // how much; 0 is 2 GiB
}

// Probes says how often control tries each stamp as by a device, which needs to
// know where devices register.
type Probes struct {
	Seconds int `json:"seconds,omitempty"` // between two tries; 0 is never
}

// Trail says where what the process says goes, beside its own output and
// control's journal.
type Trail struct {
	Collector string   `json:"collector,omitempty"` // URL of an OpenTelemetry collector
	Share     *float64 `json:"share,omitempty"`     // of how many requests of devices there is a trace, 0 to 1
}

// Listen are the addresses of a process, host:port each.
type Listen struct {
	HTTPS string `json:"https,omitempty"`
	HTTP  string `json:"http,omitempty"` // control's console without TLS, on loopback
	MQTTS string `json:"mqtts,omitempty"`
	AMQPS string `json:"amqps,omitempty"`
}

// TLS names the files of a certificate that devices and people are to see
// instead of the installation's own. They are read again when they change.
type TLS struct {
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
}

// Link is the part of the link that a process of control or provisioning is.
type Link struct {
	Listen    string `json:"listen,omitempty"`    // host:port for stamps and provisioning
	Advertise string `json:"advertise,omitempty"` // host:port by which they reach it
	Cluster   string `json:"cluster,omitempty"`   // host:port for the link's other servers
}

// Join is how a process gets its place on the link, the first time.
type Join struct {
	Control   string `json:"control,omitempty"`   // URL of control's API
	Token     string `json:"token,omitempty"`     // or SLIPWAY_JOIN_TOKEN
	TokenFile string `json:"tokenFile,omitempty"` // file that holds it
	CA        string `json:"ca,omitempty"`        // PEM file of the authority of control's certificate, if that is another
}

// Log says what is logged.
type Log struct {
	Level  string `json:"level,omitempty"`  // debug, info, warn or error
	Format string `json:"format,omitempty"` // text or json
}

// ReadConfig reads and checks a file. Relative paths in it start where it is.
func ReadConfig(file string) (Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Config{}, err
	}
	dir := filepath.Dir(file)
	return resource.DecodeOne(file, text, func(c Config) (Config, error) { return c.check(dir) })
}

// backups are those of control.
func (c *Config) backups() (control.BackupConfig, error) {
	if c.Backups == nil {
		return control.BackupConfig{}, nil
	}
	vaults, err := vault.Specs(c.Backups.Vaults, c.dir)
	if err != nil {
		return control.BackupConfig{}, problem.Of(err).At("backups")
	}
	return control.BackupConfig{Vaults: vaults, Recipients: c.Backups.Recipients, Rate: c.Backups.BytesPerSecond}, nil
}

// check holds a configuration against the rules and fills in what it leaves out.
func (c Config) check(dir string) (Config, error) {
	c.dir = dir
	for _, path := range []*string{&c.Data, &c.TLS.Certificate, &c.TLS.Key, &c.Join.TokenFile, &c.Join.CA,
		&c.Cluster.Files, &c.Cluster.NATS.Credentials, &c.Cluster.NATS.CA, &c.Cluster.NATS.Certificate, &c.Cluster.NATS.Key} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	for _, rule := range []func(*Config) error{(*Config).checkPlane, (*Config).checkAddresses, (*Config).checkJoin, (*Config).checkRest} {
		if err := rule(&c); err != nil {
			return c, err
		}
	}
	return c, nil
}

func invalid(field, format string, args ...any) error {
	return problem.New(problem.Invalid, format, args...).At(field)
}

func (c *Config) checkPlane() error {
	switch {
	case !slices.Contains([]string{Control, Provisioning, Stamp}, c.Plane):
		return invalid("plane", "must be %s, %s or %s, not %q", Control, Provisioning, Stamp, c.Plane)
	case c.Plane == Stamp && resource.CheckName(resource.KindStamp, c.Name) != nil:
		return invalid("name", "must be the stamp's name, 1 to 63 of a-z, 0-9 and '-', not %q", c.Name)
	case c.Plane != Stamp && c.Name != "":
		return invalid("name", "only a stamp has one")
	case c.Standby && (c.Plane == Stamp || c.Database == ""):
		return invalid("standby", "is for control and provisioning on a PostgreSQL database; a stamp may have several processes that all work")
	case c.Standby && c.Plane == Control && c.Artifacts.Directory == "" && c.Artifacts.S3 == nil:
		return invalid("artifacts", "is missing: a standby of control has the files of releases from where the first process keeps them, a directory on a file server or s3")
	case c.Data == "":
		return invalid("data", "is missing: the directory of everything that must survive a restart")
	case c.Plane == Stamp && c.Link != (Link{}):
		return invalid("link", "a stamp only dials the link; control and provisioning hold it")
	case c.Plane != Control && c.Listen.HTTP != "":
		return invalid("listen.http", "only control serves people")
	case c.Plane != Stamp && c.Limits != (link.StampLimits{}):
		return invalid("limits", "only a stamp has them")
	case c.Plane != Stamp && len(c.Operations) > 0:
		return invalid("operations", "only a stamp has them")
	case c.Plane != Stamp && !reflect.DeepEqual(c.UpdateClients, UpdateClients{}):
		return invalid("updateClients", "only a stamp has them")
	case c.UpdateClients.PollSeconds < 0 || c.UpdateClients.PollSeconds > maxPoll:
		return invalid("updateClients.pollSeconds", "must be 1 to %d, not %d", maxPoll, c.UpdateClients.PollSeconds)
	case c.Plane != Control && c.Local != (Local{}):
		return invalid("local", "only control starts stamps")
	case c.Plane != Control && (c.Audit.S3 != nil || len(c.Audit.Witnesses) > 0):
		return invalid("audit", "only control keeps an audit log")
	case c.Plane != Control && c.Artifacts != (Artifacts{}):
		return invalid("artifacts", "only control keeps them")
	case c.Plane != Control && c.Backups != nil:
		return invalid("backups", "only control has them taken")
	case c.Plane != Control && c.Provisioning != "":
		return invalid("provisioning", "only control shows it")
	case c.Plane == Control && (c.Listen.MQTTS != "" || c.Listen.AMQPS != ""):
		return invalid("listen", "control speaks neither MQTT nor AMQP; provisioning and stamps do")
	case c.Plane == Provisioning && c.Listen.AMQPS != "":
		return invalid("listen.amqps", "provisioning does not speak AMQP")
	}
	return nil
}

// The ports where nothing else is said.
const (
	defaultHTTPS   = ":8443"
	defaultMQTTS   = ":8883"
	defaultAMQPS   = ":5671"
	defaultHTTP    = "127.0.0.1:8080"
	defaultLink    = ":7422"
	defaultCluster = ":7423"
)

func (c *Config) checkAddresses() error {
	type address struct {
		field string
		at    *string
		usual string
	}
	all := []address{{"listen.https", &c.Listen.HTTPS, defaultHTTPS}}
	switch c.Plane {
	case Control:
		all = append(all, address{"listen.http", &c.Listen.HTTP, defaultHTTP}, address{"link.listen", &c.Link.Listen, defaultLink}, address{"link.cluster", &c.Link.Cluster, defaultCluster})
	case Provisioning:
		all = append(all, address{"listen.mqtts", &c.Listen.MQTTS, defaultMQTTS}, address{"link.listen", &c.Link.Listen, defaultLink}, address{"link.cluster", &c.Link.Cluster, defaultCluster})
	case Stamp:
		all = append(all, address{"listen.mqtts", &c.Listen.MQTTS, defaultMQTTS}, address{"listen.amqps", &c.Listen.AMQPS, defaultAMQPS})
	}
	for _, a := range all {
		if *a.at == "" {
			*a.at = a.usual
		}
		if _, _, err := splitAddress(a.field, *a.at); err != nil {
			return err
		}
	}
	for i, host := range c.Hosts {
		if host == "" || strings.ContainsAny(host, "/ ") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return invalid("hosts", "entry %d must be a host name or an address without a port, not %q", i+1, host)
		}
	}
	if len(c.Hosts) == 0 {
		host, _, err := splitAddress("listen.https", c.Listen.HTTPS)
		if ip := net.ParseIP(host); err != nil || ip == nil || ip.IsUnspecified() {
			return invalid("hosts", "is missing: the names by which others reach this process, as it listens on every address")
		}
		c.Hosts = []string{host}
	}
	host, _, err := splitAddress("listen.http", c.Listen.HTTP)
	if ip := net.ParseIP(host); c.Plane == Control && (err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback())) {
		return invalid("listen.http", "is not TLS, so it must be on loopback, not on %q; listen.https is for other machines", host)
	}
	return nil
}

// splitAddress reads host:port; a host that is not named is every address.
func splitAddress(field, address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, invalid(field, "an address reads host:port or :port, not %q", address)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, invalid(field, "a port is a number from 0 to 65535, not %q", text)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, port, nil
}

func (c *Config) checkJoin() error {
	switch {
	case c.Plane == Control && c.Join != (Join{}):
		return invalid("join", "control joins nothing; the others join it")
	case c.Plane != Control && !strings.HasPrefix(c.Join.Control, "https://"):
		return invalid("join.control", "must be the URL of control's API, such as https://control.example.com:8443, not %q", c.Join.Control)
	case c.Join.Token != "" && c.Join.TokenFile != "":
		return invalid("join.tokenFile", "either token or tokenFile, not both")
	}
	return nil
}

// probe is how often stamps are tried, and where probes register.
func (c *Config) probe() control.Probe {
	return control.Probe{Every: time.Duration(c.Probes.Seconds) * time.Second, Provisioning: c.Provisioning}
}

func (c *Config) checkRest() error {
	switch {
	case (c.TLS.Certificate == "") != (c.TLS.Key == ""):
		return invalid("tls", "certificate and key go together")
	case c.Metrics != (Metrics{}) && (c.Plane != Control || c.Prometheus != ""):
		return invalid("metrics", "only control keeps them, and only where it names no prometheus")
	case c.Probes != (Probes{}) && (c.Plane != Control || c.Provisioning == ""):
		return invalid("probes", "only control tries stamps, and only where provisioning says where devices register")
	case c.probe().Check("") != nil:
		return invalid("probes.seconds", "%s", problem.Of(c.probe().Check("")).Message)
	case c.Trail.Collector != "" && trail.CheckCollector("trail.collector", c.Trail.Collector) != nil:
		return trail.CheckCollector("trail.collector", c.Trail.Collector)
	case c.Trail.Share != nil && trail.CheckShare("trail.share", *c.Trail.Share) != nil:
		return trail.CheckShare("trail.share", *c.Trail.Share)
	case c.Journal != (Metrics{}) && c.Plane != Control:
		return invalid("journal", "is for control alone")
	case c.Journal.Days < 0 || c.Journal.Days > 3660 || c.Journal.Bytes < 0:
		return invalid("journal", "keeps 0 to 3660 days and a number of bytes that is not negative")
	case c.Metrics.Days < 0 || c.Metrics.Days > 3660 || c.Metrics.Bytes < 0:
		return invalid("metrics", "days is a number up to 3660 and bytes one from 0; 0 is as usual")
	case c.OIDC != nil && c.Plane != Control:
		return invalid("oidc", "people sign in to control only")
	case c.Prometheus != "" && resource.CheckURL(c.Prometheus) != nil:
		return invalid("prometheus", "must be a URL such as https://prometheus.example.com, without a password, not %q", c.Prometheus)
	case c.Log.Level != "" && !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level):
		return invalid("log.level", "must be debug, info, warn or error, not %q", c.Log.Level)
	case c.Log.Format != "" && c.Log.Format != "text" && c.Log.Format != "json":
		return invalid("log.format", "must be text or json, not %q", c.Log.Format)
	}
	if c.Trail.Share == nil {
		usual := trail.DefaultShare
		c.Trail.Share = &usual
	}
	if c.OIDC != nil {
		if err := c.OIDC.Check("oidc"); err != nil {
			return err
		}
	}
	if err := c.checkLimits(); err != nil {
		return err
	}
	if c.Plane == Control && c.Local.Network == "" {
		c.Local.Network = "127.0.2"
	}
	if ip := net.ParseIP(c.Local.Network + ".1"); c.Plane == Control && (ip == nil || !ip.IsLoopback()) {
		return invalid("local.network", "must be the first three numbers of loopback addresses, such as 127.0.2, not %q", c.Local.Network)
	}
	if c.Database != "" {
		if err := sqldb.CheckURL(c.Database); err != nil {
			return problem.Of(err).At("database")
		}
	}
	if _, err := inbound.Parse(c.AllowFrom); err != nil {
		return invalid(strings.TrimSuffix("allowFrom."+problem.Of(err).Field, "."), "%s", problem.Of(err).Message)
	}
	if _, err := seal.ParseSource(c.SealingKeys, c.Data); err != nil {
		return invalid("sealingKeys", "%s", problem.Of(err).Message)
	}
	if err := c.Audit.check(); err != nil {
		return err
	}
	if err := c.Artifacts.check(); err != nil {
		return err
	}
	if err := c.checkCluster(); err != nil {
		return err
	}
	nats := c.Cluster.NATS
	for _, file := range []struct{ field, path string }{
		{"tls.certificate", c.TLS.Certificate}, {"tls.key", c.TLS.Key}, {"join.ca", c.Join.CA},
		{"cluster.nats.credentials", nats.Credentials}, {"cluster.nats.ca", nats.CA}, {"cluster.nats.certificate", nats.Certificate}, {"cluster.nats.key", nats.Key},
	} {
		if file.path == "" {
			continue
		}
		if _, err := os.Stat(file.path); err != nil {
			return invalid(file.field, "cannot be read: %s", err)
		}
	}
	return nil
}

func (a Artifacts) check() error {
	switch {
	case a.FileBytes < 0 || a.ArtifactBytes < 0:
		return invalid("artifacts", "a number of bytes is not negative")
	case a.S3 == nil:
		return nil
	case a.Directory != "":
		return invalid("artifacts", "a directory or s3, one of the two")
	}
	return a.S3.check("artifacts.s3")
}

// check holds a bucket, which is the value of a field, against what it needs.
func (s *S3) check(field string) error {
	if s.Bucket == "" || s.AccessKey == "" || s.SecretKeyFile == "" {
		return invalid(field, "name the bucket, the accessKey and the secretKeyFile")
	}
	if _, err := blob.OpenS3(link.S3{Endpoint: s.Endpoint}, nil); err != nil {
		return invalid(field+".endpoint", "%s", problem.Of(err).Message)
	}
	if _, err := os.Stat(s.SecretKeyFile); err != nil {
		return invalid(field+".secretKeyFile", "cannot be read: %s", err)
	}
	return nil
}

// spec is a bucket with its secret.
func (s *S3) spec() (*link.S3, error) {
	secret, err := os.ReadFile(s.SecretKeyFile)
	return &link.S3{Endpoint: s.Endpoint, Bucket: s.Bucket, Prefix: s.Prefix, Region: s.Region, AccessKey: s.AccessKey, SecretKey: strings.TrimSpace(string(secret))}, err
}

func (a Audit) check() error {
	if err := (control.Witnesses{At: a.Witnesses}).Check(); err != nil {
		return invalid("audit.witnesses", "%s", problem.Of(err).Message)
	}
	if a.S3 == nil {
		return nil
	}
	return a.S3.check("audit.s3")
}

func (a Audit) witnesses() (w control.Witnesses, err error) {
	w.At = a.Witnesses
	if a.S3 != nil {
		w.S3, err = a.S3.spec()
	}
	return w, err
}

// options are what control is built with.
func (a Artifacts) options() (control.Artifacts, error) {
	o := control.Artifacts{Dir: a.Directory, Limits: control.ArtifactLimits{File: a.FileBytes, Total: a.ArtifactBytes}}
	if a.S3 == nil {
		return o, nil
	}
	var err error
	o.S3, err = a.S3.spec()
	return o, err
}

// usualReplicas of a log outlive the loss of a server.
const usualReplicas = 3

// checkCluster holds what several processes share against what they need.
func (c *Config) checkCluster() error {
	cluster := &c.Cluster
	if reflect.DeepEqual(*cluster, Cluster{}) {
		return nil
	}
	switch {
	case c.Plane != Stamp:
		return invalid("cluster", "only a stamp is several processes; a second process of %s waits until the first is gone", c.Plane)
	case c.Database == "":
		return invalid("database", "is missing: the processes of a stamp share a PostgreSQL database")
	case len(cluster.NATS.Servers) == 0:
		return invalid("cluster.nats.servers", "is missing: the processes of a stamp share the NATS servers that keep its log")
	case cluster.Files == "":
		return invalid("cluster.files", "is missing: the directory of files from devices, the same for all processes of the stamp")
	case cluster.NATS.Replicas < 0 || cluster.NATS.Replicas > 5 || cluster.NATS.Replicas == 2 || cluster.NATS.Replicas == 4:
		return invalid("cluster.nats.replicas", "must be 1, 3 or 5, not %d", cluster.NATS.Replicas)
	case (cluster.NATS.Certificate == "") != (cluster.NATS.Key == ""):
		return invalid("cluster.nats", "certificate and key go together")
	}
	if cluster.Process == "" {
		host, err := os.Hostname()
		if err != nil {
			return invalid("cluster.process", "is missing, and the machine has no name: %s", err)
		}
		cluster.Process = strings.ToLower(strings.SplitN(host, ".", 2)[0])
	}
	if resource.CheckName(resource.KindStamp, cluster.Process) != nil {
		return invalid("cluster.process", "must be 1 to 63 of a-z, 0-9 and '-', not %q", cluster.Process)
	}
	if err := c.checkServers(); err != nil {
		return err
	}
	if cluster.NATS.Replicas == 0 {
		cluster.NATS.Replicas = 1
		if len(cluster.NATS.Servers) >= usualReplicas {
			cluster.NATS.Replicas = usualReplicas
		}
	}
	return nil
}

// checkServers holds the servers of a stamp's log against how they are reached.
func (c *Config) checkServers() error {
	n := &c.Cluster.NATS
	if n.Listen == "" {
		for i, at := range n.Servers {
			if err := bus.CheckServer(at); err != nil {
				return problem.Of(err).At(fmt.Sprintf("cluster.nats.servers[%d]", i))
			}
		}
		return nil
	}
	if _, _, err := splitAddress("cluster.nats.listen", n.Listen); err != nil {
		return err
	}
	for i, at := range n.Servers {
		if _, _, err := splitAddress(fmt.Sprintf("cluster.nats.servers[%d]", i), at); err != nil {
			return err
		}
	}
	own := n.of(c.Hosts)
	if len(own) == 0 { // pods of one configuration know each other by their names
		if own = n.named(c.Cluster.Process); len(own) == 1 {
			host, _, _ := net.SplitHostPort(own[0])
			c.Hosts = append(c.Hosts, host)
		}
	}
	switch {
	case n.Credentials != "" || n.CA != "" || n.Certificate != "":
		return invalid("cluster.nats", "the processes' own servers know each other by the certificates with which they joined; leave out credentials, ca, certificate and key")
	case len(n.Servers) != 3 && len(n.Servers) != 5:
		return invalid("cluster.nats.servers", "with listen, names the servers of all processes that keep one, which must be 3 or 5, not %d", len(n.Servers))
	case len(own) != 1:
		return invalid("cluster.nats.servers", "with listen, names this process's own once, by one of its hosts (%s) or by a name that begins with %s, not %d times", strings.Join(c.Hosts, ", "), c.Cluster.Process, len(own))
	}
	return nil
}

// of are those servers that are on one of some hosts.
func (n *NATS) of(hosts []string) (own []string) {
	for _, at := range n.Servers {
		if host, _, err := net.SplitHostPort(at); err == nil && slices.Contains(hosts, host) {
			own = append(own, at)
		}
	}
	return own
}

// named are those servers that are on a host of a process's name, in whatever
// domain.
func (n *NATS) named(process string) (own []string) {
	for _, at := range n.Servers {
		if label, _, _ := strings.Cut(at, "."); label == process {
			own = append(own, at)
		}
	}
	return own
}

// checkLimits holds a stamp's limits against what makes sense, and fills in
// what they leave out.
func (c *Config) checkLimits() error {
	l := &c.Limits
	switch {
	case c.Plane != Stamp:
		return nil
	case l.Connections < 0 || l.Connections > maxConnections:
		return invalid("limits.connections", "must be 1 to %d, not %d", maxConnections, l.Connections)
	case l.Sockets < 0 || l.Sockets > maxConnections:
		return invalid("limits.sockets", "must be 1 to %d, not %d", maxConnections, l.Sockets)
	case l.ConnectsPerSecond < 0:
		return invalid("limits.connectsPerSecond", "must not be negative")
	case l.MessagesPerSecond < 0:
		return invalid("limits.messagesPerSecond", "must not be negative")
	case l.TelemetryBytes != 0 && l.TelemetryBytes < minTelemetry:
		return invalid("limits.telemetryBytes", "must be %d or more, not %d", minTelemetry, l.TelemetryBytes)
	case l.TelemetryHours < 0 || l.TelemetryHours != 0 && l.TelemetryHours < 1:
		return invalid("limits.telemetryHours", "must be 1 or more")
	}
	if err := c.checkOperations(); err != nil {
		return err
	}
	l.Connections = cmp.Or(l.Connections, entrance.Connections(0))
	l.Sockets = entrance.Sockets(l.Sockets)
	l.ConnectsPerSecond = cmp.Or(l.ConnectsPerSecond, hub.DefaultLimits.ConnectRate)
	l.TelemetryBytes = cmp.Or(l.TelemetryBytes, telemetry.DefaultRetention.TelemetryBytes)
	l.TelemetryHours = cmp.Or(l.TelemetryHours, telemetry.DefaultRetention.TelemetryAge.Hours())
	return nil
}

func (c *Config) checkOperations() error {
	for kind, perSecond := range c.Operations {
		switch field := "operations." + string(kind); {
		case !throttle.Known(kind):
			return invalid(field, "is no kind of operation; there are %v", throttle.Kinds())
		case perSecond < 0:
			return invalid(field, "must not be negative")
		}
	}
	operations := maps.Clone(throttle.Default)
	maps.Copy(operations, c.Operations)
	c.Operations = operations
	return nil
}

const (
	maxPoll        = 21 * 3600 // so that it is less than a day with what it is spread by
	maxConnections = 2_000_000
	minTelemetry   = 16 << 20
)

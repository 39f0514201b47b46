package resource

import (
	"encoding/base64"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Route is where messages of an environment go, with its state on each stamp.
type Route = Object[link.RouteSpec, RouteStatus]

// RouteStatus is what is so of a route.
type RouteStatus struct {
	Stamps []link.RouteState `json:"stamps" doc:"One for each stamp that can be reached"`
}

// Sum adds up the states of all stamps; a route that fails anywhere fails, and
// the error says where.
func (s RouteStatus) Sum() (sum link.RouteState) {
	for _, one := range s.Stamps {
		sum.Delivered += one.Delivered
		sum.DeadLetters += one.DeadLetters
		sum.Lost += one.Lost
		sum.Lag += one.Lag
		if sum.State == "" || one.State == "failing" {
			sum.State = one.State
		}
		if one.State == "failing" {
			sum.Error = one.Stamp + ": " + one.Error
		}
	}
	return sum
}

// Mask stands for a secret that is stored.
const Mask = "***"

// The limits and defaults of routes.
const (
	MaxRoutes       = 100 // of an environment
	maxEnrich       = 10
	maxWhere        = 8192
	defaultMessages = 100
	maxMessages     = 10_000
	defaultBytes    = 256 << 10
	maxBytes        = 4 << 20
	defaultWait     = 1
	archiveWait     = 60
	maxWait         = 600
	defaultAge      = 24 * 3600
	maxAge          = 7 * 24 * 3600
	defaultTimeout  = 30
	maxTimeout      = 120
)

var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?$`)

// CheckRoute holds a route against the rules that need no stamp and returns
// it with defaults.
func CheckRoute(s link.RouteSpec) (link.RouteSpec, error) {
	if s.Source == "" {
		s.Source = link.SourceTelemetry
	}
	if s.MaxAge == 0 {
		s.MaxAge = defaultAge
	}
	if s.Batch == nil {
		s.Batch = &link.Batch{}
	}
	batch := *s.Batch
	s.Batch = &batch
	fillBatch(s.Batch, s.Endpoint.Archive != nil)
	switch {
	case s.Environment == "":
		return s, problem.New(problem.Invalid, "a route belongs to an environment; name it").At("spec.environment")
	case !slices.Contains(link.Sources, s.Source):
		return s, problem.New(problem.Invalid, "a route's source is one of %s, not %q", strings.Join(link.Sources, ", "), s.Source).At("spec.source")
	case len(s.Where) > maxWhere:
		return s, problem.New(problem.Invalid, "a condition has at most %d characters, not %d", maxWhere, len(s.Where)).At("spec.where")
	case len(s.Enrich) > maxEnrich:
		return s, problem.New(problem.Invalid, "a route adds at most %d properties, not %d", maxEnrich, len(s.Enrich)).At("spec.enrich")
	case s.MaxAge < 1 || s.MaxAge > maxAge:
		return s, problem.New(problem.Invalid, "a message is tried for 1 to %d seconds, not %d", maxAge, s.MaxAge).At("spec.maxAgeSeconds")
	case batch.Messages < 0 || s.Batch.Messages > maxMessages:
		return s, problem.New(problem.Invalid, "a batch has 1 to %d messages, not %d", maxMessages, s.Batch.Messages).At("spec.batch.maxMessages")
	case batch.Bytes < 0 || s.Batch.Bytes > maxBytes:
		return s, problem.New(problem.Invalid, "a batch has 1 to %d bytes, not %d", maxBytes, s.Batch.Bytes).At("spec.batch.maxBytes")
	case batch.Wait < 0 || s.Batch.Wait > maxWait:
		return s, problem.New(problem.Invalid, "a message waits at most %d seconds for others, not %d", maxWait, s.Batch.Wait).At("spec.batch.maxWaitSeconds")
	}
	if err := checkProcessor(s.Processor); err != nil {
		return s, err
	}
	return s, checkEndpoint(&s.Endpoint)
}

// What a processor may be allowed at most.
const (
	maxMemory  = 512    // MiB
	maxRunning = 60_000 // ms
)

var hexDigest = regexp.MustCompile("^[0-9a-f]{64}$")

func checkProcessor(p *link.Processor) error {
	switch {
	case p == nil:
	case !hexDigest.MatchString(p.Artifact.SHA256):
		return problem.New(problem.Invalid, "a processor is an artifact by the hex SHA-256 of its content; slipway artifact put FILE stores it and tells").At("spec.processor.artifact.sha256")
	case p.MemoryMiB < 0 || p.MemoryMiB > maxMemory:
		return problem.New(problem.Invalid, "a processor has 1 to %d MiB of memory, not %d", maxMemory, p.MemoryMiB).At("spec.processor.memoryMiB")
	case p.TimeoutMillis < 0 || p.TimeoutMillis > maxRunning:
		return problem.New(problem.Invalid, "a processor has 1 to %d milliseconds for a batch, not %d", maxRunning, p.TimeoutMillis).At("spec.processor.timeoutMillis")
	}
	return nil
}

func fillBatch(b *link.Batch, archive bool) {
	messages, bytes, wait := defaultMessages, int64(defaultBytes), int64(defaultWait)
	if archive {
		messages, bytes, wait = maxMessages, maxBytes, archiveWait
	}
	if b.Messages == 0 {
		b.Messages = messages
	}
	if b.Bytes == 0 {
		b.Bytes = bytes
	}
	if b.Wait == 0 {
		b.Wait = wait
	}
}

func checkEndpoint(e *link.Endpoint) error {
	var failures []error
	if e.Webhook != nil {
		copied := *e.Webhook
		e.Webhook = &copied
		failures = append(failures, checkWebhook(e.Webhook))
	}
	if e.NATS != nil {
		failures = append(failures, checkNATS(*e.NATS))
	}
	if e.Kafka != nil {
		failures = append(failures, checkKafka(*e.Kafka))
	}
	if e.PostgreSQL != nil {
		failures = append(failures, checkPostgreSQL(*e.PostgreSQL))
	}
	if e.Archive != nil {
		copied := *e.Archive
		e.Archive = &copied
		failures = append(failures, checkArchive(e.Archive))
	}
	if len(failures) != 1 {
		return problem.New(problem.Invalid, "a route has exactly one endpoint: webhook, nats, kafka, postgresql or archive, not %d of them", len(failures)).At("spec.endpoint")
	}
	return failures[0]
}

func checkURL(field, text string, schemes ...string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
		return problem.New(problem.Invalid, "a URL reads %s://host/…, not %q", strings.Join(schemes, ":// or "), text).At(field)
	}
	if _, secret := u.User.Password(); secret {
		return problem.New(problem.Invalid, "the password has a field of its own, so that it is not shown with the URL").At(field)
	}
	return nil
}

func checkWebhook(w *link.Webhook) error {
	const at = "spec.endpoint.webhook"
	if err := checkURL(at+".url", w.URL, "https", "http"); err != nil {
		return err
	}
	if w.Timeout == 0 {
		w.Timeout = defaultTimeout
	}
	if w.Timeout < 1 || w.Timeout > maxTimeout {
		return problem.New(problem.Invalid, "an answer is waited for 1 to %d seconds, not %d", maxTimeout, w.Timeout).At(at + ".timeoutSeconds")
	}
	for name := range w.Headers {
		if lower := strings.ToLower(name); name == "" || lower == "host" || lower == "content-length" || strings.HasPrefix(lower, "webhook-") || strings.ContainsAny(name, " :\r\n") {
			return problem.New(problem.Invalid, "%q cannot be set", name).At(at + ".headers")
		}
	}
	if _, named := IsReference(w.Secret); named || w.Secret == "" || w.Secret == Mask {
		return nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(w.Secret, "whsec_"))
	if err != nil || !strings.HasPrefix(w.Secret, "whsec_") || len(key) < 24 || len(key) > 64 {
		return problem.New(problem.Invalid, "a secret is whsec_ and the base64 of 24 to 64 bytes; `echo whsec_$(openssl rand -base64 32)` makes one").At(at + ".secret")
	}
	return nil
}

func checkNATS(n link.NATS) error {
	if err := checkURL("spec.endpoint.nats.url", n.URL, "nats", "tls"); err != nil {
		return err
	}
	if n.Subject == "" || strings.ContainsAny(n.Subject, " \t\r\n*>") || strings.HasPrefix(n.Subject, ".") || strings.HasSuffix(n.Subject, ".") {
		return problem.New(problem.Invalid, "a subject to publish on has no spaces and no wildcards, unlike %q", n.Subject).At("spec.endpoint.nats.subject")
	}
	return nil
}

func checkKafka(k link.Kafka) error {
	const at = "spec.endpoint.kafka"
	if len(k.Brokers) == 0 || len(k.Brokers) > 20 {
		return problem.New(problem.Invalid, "name 1 to 20 brokers").At(at + ".brokers")
	}
	for _, broker := range k.Brokers {
		if _, _, err := net.SplitHostPort(broker); err != nil {
			return problem.New(problem.Invalid, "a broker reads host:port, not %q", broker).At(at + ".brokers")
		}
	}
	if k.Topic == "" || len(k.Topic) > 249 {
		return problem.New(problem.Invalid, "a topic has 1 to 249 characters").At(at + ".topic")
	}
	if (k.User == "") != (k.Password == "") {
		return problem.New(problem.Invalid, "user and password go together").At(at + ".user")
	}
	return nil
}

func checkPostgreSQL(p link.PostgreSQL) error {
	if err := checkURL("spec.endpoint.postgresql.url", p.URL, "postgres", "postgresql"); err != nil {
		return err
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		return problem.New(problem.Invalid, "the URL cannot be read").At("spec.endpoint.postgresql.url")
	}
	for key := range u.Query() {
		// Others name files of this machine, or another host.
		if !slices.Contains([]string{"sslmode", "application_name", "search_path"}, key) {
			return problem.New(problem.Invalid, "the URL may set sslmode, application_name and search_path, not %q", key).At("spec.endpoint.postgresql.url")
		}
	}
	if !tableName.MatchString(p.Table) {
		return problem.New(problem.Invalid, "a table reads name or schema.name, of letters, digits and '_', not %q", p.Table).At("spec.endpoint.postgresql.table")
	}
	return nil
}

func checkArchive(a *link.Archive) error {
	const at = "spec.endpoint.archive"
	if a.Format == "" {
		a.Format = "jsonl"
	}
	if a.Format != "jsonl" && a.Format != "parquet" {
		return problem.New(problem.Invalid, "the format is jsonl or parquet, not %q", a.Format).At(at + ".format")
	}
	if (a.Directory == "") == (a.S3 == nil) {
		return problem.New(problem.Invalid, "an archive is a directory or s3, one of the two").At(at)
	}
	if a.S3 == nil {
		if !filepath.IsLocal(a.Directory) || strings.ContainsAny(a.Directory, "\\\x00") {
			return problem.New(problem.Invalid, "the directory is below the installation's archive directory, unlike %q", a.Directory).At(at + ".directory")
		}
		return nil
	}
	if err := checkURL(at+".s3.endpoint", a.S3.Endpoint, "https", "http"); err != nil {
		return err
	}
	if a.S3.Bucket == "" || a.S3.AccessKey == "" {
		return problem.New(problem.Invalid, "name the bucket and the access key").At(at + ".s3.bucket")
	}
	return nil
}

// secrets are the places of a route that hold some, with the address they are
// meant for.
func secrets(s *link.RouteSpec) (address string, fields []*string) {
	e := &s.Endpoint
	switch {
	case e.Webhook != nil:
		w := *e.Webhook
		w.Headers = maps.Clone(w.Headers)
		e.Webhook = &w
		return "webhook " + w.URL, []*string{&e.Webhook.Secret}
	case e.NATS != nil:
		n := *e.NATS
		e.NATS = &n
		return "nats " + n.URL + n.User, []*string{&e.NATS.Password}
	case e.Kafka != nil:
		k := *e.Kafka
		e.Kafka = &k
		return "kafka " + strings.Join(k.Brokers, ",") + k.User, []*string{&e.Kafka.Password}
	case e.PostgreSQL != nil:
		p := *e.PostgreSQL
		e.PostgreSQL = &p
		return "postgresql " + p.URL, []*string{&e.PostgreSQL.Password}
	case e.Archive != nil && e.Archive.S3 != nil:
		a, s3 := *e.Archive, *e.Archive.S3
		a.S3, e.Archive = &s3, &a
		return "s3 " + s3.Endpoint + s3.AccessKey, []*string{&e.Archive.S3.SecretKey}
	}
	return "", nil
}

// MaskRoute returns a route without its secrets; the names of those that it
// only names stay.
func MaskRoute(s link.RouteSpec) link.RouteSpec {
	masked, err := Secrets(s, func(secret string) (string, error) {
		if _, named := IsReference(secret); named {
			return secret, nil
		}
		return Mask, nil
	})
	if err != nil {
		return link.RouteSpec{}
	}
	return masked
}

// UnmaskRoute puts the stored secrets where s has the mask. They are kept only
// for the address they were given for: whoever may change a route must not be
// able to send its secrets elsewhere.
func UnmaskRoute(s, stored link.RouteSpec) (link.RouteSpec, error) {
	address, fields := secrets(&s)
	known, kept := secrets(&stored)
	same := address == known && len(fields) == len(kept)
	fault := problem.New(problem.Invalid, "there is no secret stored for this address that %s could stand for; give it", Mask).At("spec.endpoint")
	for i, f := range fields {
		if *f != Mask {
			continue
		}
		if !same || *kept[i] == "" {
			return s, fault
		}
		*f = *kept[i]
	}
	if s.Endpoint.Webhook == nil {
		return s, nil
	}
	for name, value := range s.Endpoint.Webhook.Headers {
		if value != Mask {
			continue
		}
		if !same || stored.Endpoint.Webhook.Headers[name] == "" {
			return s, fault
		}
		s.Endpoint.Webhook.Headers[name] = stored.Endpoint.Webhook.Headers[name]
	}
	return s, nil
}

package link

import (
	"encoding/json"
	"time"
)

// Calls a stamp answers about its routes and its consumers.
var (
	RoutesPut        = Call[Routes, None]{"routes.put"}
	RouteTry         = Call[TryRoute, RouteTrial]{"route.try"}
	RouteStatuses    = Call[None, RouteStates]{"route.statuses"}
	DeadLetterList   = Call[DeadLetterPage, DeadLetters]{"deadLetter.list"}
	DeadLetterReplay = Call[DeadLetterRef, Purged]{"deadLetter.replay"}
	DeadLetterPurge  = Call[DeadLetterRef, Purged]{"deadLetter.purge"}
	ConsumerRead     = Call[ReadConsumer, ConsumerPage]{"consumer.read"}
	ConsumerAck      = Call[AckConsumer, Consumer]{"consumer.ack"}
	ConsumerSeek     = Call[SeekConsumer, Consumer]{"consumer.seek"}
	ConsumerList     = Call[None, Consumers]{"consumer.list"}
	ConsumerDelete   = Call[ConsumerRef, None]{"consumer.delete"}
)

// What a route may take messages from.
const (
	SourceTelemetry  = "telemetry"
	SourceEvents     = "events" // all that follow
	SourceConnection = "deviceConnection"
	SourceLifecycle  = "deviceLifecycle"
	SourceTwin       = "twinChanges"
	SourceCommands   = "commands"
	SourceUploads    = "uploads"
	SourceJobs       = "jobs"
)

// Sources are all of them.
var Sources = []string{SourceTelemetry, SourceEvents, SourceConnection, SourceLifecycle, SourceTwin, SourceCommands, SourceUploads, SourceJobs}

// RouteSpec declares where messages of an environment's stamps go.
type RouteSpec struct {
	Environment string            `json:"environment,omitempty" doc:"Environment whose stamps it is for; a release's route has none"`
	Source      string            `json:"source,omitempty" enum:"telemetry,events,deviceConnection,deviceLifecycle,twinChanges,commands,uploads,jobs" doc:"What it takes; default telemetry"`
	Where       string            `json:"where,omitempty" doc:"Condition over the message, such as $body.temperature > 40; empty takes all"`
	Enrich      map[string]string `json:"enrich,omitempty" doc:"Properties to add: text, $stamp, $environment, $twin.tags.… or $twin.properties.desired.…"`
	Processor   *Processor        `json:"processor,omitempty" doc:"A program that works on the messages before they go"`
	Endpoint    Endpoint          `json:"endpoint" doc:"Where messages go; exactly one of its members"`
	Batch       *Batch            `json:"batch,omitempty" doc:"How many go at once"`
	MaxAge      int64             `json:"maxAgeSeconds,omitempty" doc:"How old a message may become while its endpoint fails, before it goes to the dead letters; default a day"`
	Disabled    bool              `json:"disabled,omitempty" doc:"Take nothing; what comes meanwhile waits in the log as long as that keeps it"`
}

// Processor is a WebAssembly module for WASI preview 1. It reads one message a
// line, as JSON, and writes one line for each: what the message becomes, or
// nothing to drop it. It may change the message's body, properties and content
// type.
type Processor struct {
	Artifact      Artifact `json:"artifact" doc:"The module"`
	MemoryMiB     int      `json:"memoryMiB,omitempty" doc:"How much memory it may use; default 64"`
	TimeoutMillis int      `json:"timeoutMillis,omitempty" doc:"How long it may take for a batch; default 5000"`
}

// Batch bounds what goes to an endpoint at once.
type Batch struct {
	Messages int   `json:"maxMessages,omitempty" doc:"Default 100"`
	Bytes    int64 `json:"maxBytes,omitempty" doc:"Default 262144"`
	Wait     int64 `json:"maxWaitSeconds,omitempty" doc:"How long the first message waits for others; default 1, for archives 60"`
}

// Endpoint is where a route delivers. Secrets are shown as *** and kept when
// that is sent back.
type Endpoint struct {
	Webhook    *Webhook    `json:"webhook,omitempty"`
	NATS       *NATS       `json:"nats,omitempty"`
	Kafka      *Kafka      `json:"kafka,omitempty"`
	PostgreSQL *PostgreSQL `json:"postgresql,omitempty"`
	Archive    *Archive    `json:"archive,omitempty"`
}

// String names where it delivers, for people.
func (e Endpoint) String() string {
	switch {
	case e.Webhook != nil:
		return e.Webhook.URL
	case e.NATS != nil:
		return e.NATS.URL + " " + e.NATS.Subject
	case e.Kafka != nil:
		return "Kafka topic " + e.Kafka.Topic
	case e.PostgreSQL != nil:
		return "PostgreSQL table " + e.PostgreSQL.Table
	case e.Archive != nil && e.Archive.S3 != nil:
		return "bucket " + e.Archive.S3.Bucket
	case e.Archive != nil:
		return "directory " + e.Archive.Directory
	}
	return "nowhere"
}

// Webhook posts batches as a JSON array, signed.
type Webhook struct {
	URL     string            `json:"url" doc:"Where batches are posted; https, or http where that is allowed"`
	Secret  string            `json:"secret,omitempty" doc:"Signs requests (Standard Webhooks): whsec_ and base64 of 24 to 64 bytes" secret:"true"`
	Headers map[string]string `json:"headers,omitempty" doc:"Sent with every request; their values are secrets" secret:"true"`
	Timeout int64             `json:"timeoutSeconds,omitempty" doc:"For an answer; default 30"`
}

// NATS publishes each message on a subject.
type NATS struct {
	URL       string `json:"url" doc:"Such as tls://nats.example.com:4222"`
	Subject   string `json:"subject" doc:"$device is replaced by the device's id; JetStream removes repetitions by Nats-Msg-Id"`
	JetStream bool   `json:"jetStream,omitempty" doc:"Wait until a stream has stored each message"`
	User      string `json:"user,omitempty"`
	Password  string `json:"password,omitempty" doc:"Or a token, without a user" secret:"true"`
}

// Kafka produces each message to a topic, keyed by device.
type Kafka struct {
	Brokers  []string `json:"brokers" doc:"host:port of some"`
	Topic    string   `json:"topic"`
	TLS      bool     `json:"tls,omitempty"`
	User     string   `json:"user,omitempty" doc:"For SASL SCRAM-SHA-256"`
	Password string   `json:"password,omitempty" secret:"true"`
}

// PostgreSQL inserts each message as a row.
type PostgreSQL struct {
	URL      string `json:"url" doc:"postgres://user@host:5432/database?sslmode=verify-full, without the password"`
	Password string `json:"password,omitempty" secret:"true"`
	Table    string `json:"table" doc:"Made when missing; schema.table or table"`
}

// Archive writes files of JSON lines, partitioned by day and hour.
type Archive struct {
	Directory string `json:"directory,omitempty" doc:"Below the installation's archive directory"`
	S3        *S3    `json:"s3,omitempty" doc:"Instead of a directory"`
	Format    string `json:"format,omitempty" enum:"jsonl,parquet" doc:"Default jsonl, compressed with gzip"`
}

// S3 is a bucket of any store that speaks the protocol.
type S3 struct {
	Endpoint  string `json:"endpoint" doc:"URL of the store"`
	Bucket    string `json:"bucket"`
	Prefix    string `json:"prefix,omitempty"`
	Region    string `json:"region,omitempty"`
	AccessKey string `json:"accessKey"`
	SecretKey string `json:"secretKey,omitempty" secret:"true"`
}

// Route is a named RouteSpec.
type Route struct {
	Name string    `json:"name"`
	Spec RouteSpec `json:"spec"`
}

// Routes is the desired document control gives a stamp. Version only grows.
type Routes struct {
	Version     int64   `json:"version"`
	Environment string  `json:"environment"`
	Routes      []Route `json:"routes"`
}

// TryRoute asks what a route would make of a message, without sending it.
// Without a message it only asks whether the route can be read.
type TryRoute struct {
	Spec    RouteSpec  `json:"spec"`
	Message *LogRecord `json:"message,omitempty"`
}

// RouteTrial is the answer: whether it takes the message, and what would go out.
type RouteTrial struct {
	Taken   bool       `json:"taken"`
	Message *LogRecord `json:"message,omitempty"`
}

// RouteState is how a route is on one stamp. Every message the route has
// taken is delivered, dead or still ahead; Lost are those that
// retention took from the log before the route came to them.
type RouteState struct {
	Route       string     `json:"route"`
	Stamp       string     `json:"stamp"`
	State       string     `json:"state"`       // running, failing, disabled
	Position    uint64     `json:"position"`    // sequence up to which all is done
	Lag         uint64     `json:"lag"`         // records of the log after it
	Passed      uint64     `json:"passed"`      // records seen that it does not take
	Delivered   uint64     `json:"delivered"`   // messages the endpoint has taken
	Dead        uint64     `json:"dead"`        // messages given up and not delivered since
	DeadLetters uint64     `json:"deadLetters"` // of these, kept to be looked at and replayed
	Dropped     uint64     `json:"dropped"`     // dead letters that were purged, or gave room to newer ones
	Lost        uint64     `json:"lost"`
	Retries     uint64     `json:"retries"` // attempts that failed
	Error       string     `json:"error,omitempty"`
	ErrorAt     *time.Time `json:"errorAt,omitempty"`
	FailingFrom *time.Time `json:"failingSince,omitempty"`
	DeliveredAt *time.Time `json:"deliveredAt,omitempty"`
}

// RouteStates are those of a stamp.
type RouteStates struct {
	Items []RouteState `json:"items"`
}

// DeadLetterPage asks for dead letters of a route, oldest first.
type DeadLetterPage struct {
	Route string `json:"route"`
	After int64  `json:"after,omitempty"`
	Limit int    `json:"limit,omitempty"`
}

// DeadLetterRef names dead letters of a route; no ids mean all.
type DeadLetterRef struct {
	Route string  `json:"route"`
	IDs   []int64 `json:"ids,omitempty"`
}

// DeadLetter is a message that could not be delivered.
type DeadLetter struct {
	ID       int64           `json:"id"`
	Route    string          `json:"route"`
	Stamp    string          `json:"stamp"`
	Reason   string          `json:"reason"`
	Attempts int             `json:"attempts"`
	At       time.Time       `json:"at"`
	Waiting  bool            `json:"waiting,omitempty"` // to be sent once more
	Message  json.RawMessage `json:"message"`
}

// DeadLetters is a page of them.
type DeadLetters struct {
	Items []DeadLetter `json:"items"`
	More  bool         `json:"more"`
}

// Partitions is how many parts a stamp's telemetry is divided into for
// readers that share the work; a device is always in the same one.
const Partitions = 4

// ConsumerRef names a group of readers of one log. Partition is nil for a
// reader of everything.
type ConsumerRef struct {
	Group     string `json:"group"`
	Source    string `json:"source,omitempty"` // telemetry (default) or events
	Partition *int   `json:"partition,omitempty"`
}

// ReadConsumer asks for what comes after a group's position, or after After.
// From says where a group begins that is not there yet.
type ReadConsumer struct {
	ConsumerRef
	From  string        `json:"from,omitempty"`  // earliest or latest (default)
	After uint64        `json:"after,omitempty"` // to read ahead of what is acknowledged
	Limit int           `json:"limit,omitempty"`
	Wait  time.Duration `json:"wait,omitempty"` // for the first message, at most 30 s
}

// ConsumerPage is what a reader gets: messages, and the sequence to
// acknowledge once they are worked off, which may be beyond the last of them.
type ConsumerPage struct {
	Items    []LogRecord `json:"items"`
	Position uint64      `json:"position"`
	Lost     uint64      `json:"lost,omitempty"` // records that retention took before they were read
}

// AckConsumer moves a group's position on; it never goes back.
type AckConsumer struct {
	ConsumerRef
	Position uint64 `json:"position"`
}

// SeekConsumer sets a group's position: just before a sequence or a time, or
// to either end.
type SeekConsumer struct {
	ConsumerRef
	To       string     `json:"to,omitempty"` // earliest, latest
	Sequence uint64     `json:"sequence,omitempty"`
	Time     *time.Time `json:"time,omitempty"`
}

// Consumer is where a group is.
type Consumer struct {
	ConsumerRef
	Stamp     string    `json:"stamp"`
	Position  uint64    `json:"position"`
	Lag       uint64    `json:"lag"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// Consumers are the groups of a stamp.
type Consumers struct {
	Items []Consumer `json:"items"`
}

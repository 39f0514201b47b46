package link

import (
	"encoding/json"
	"strings"
	"time"
)

// Calls a stamp answers.
var (
	IdentityPut    = Call[PutIdentity, IdentityResult]{"identity.put"}
	IdentityRemove = Call[RemoveIdentity, RemovedIdentity]{"identity.remove"}
	DeviceGet      = Call[DeviceRef, Device]{"device.get"}
	DeviceLookup   = Call[DeviceRefs, Devices]{"device.lookup"}
	DeviceQuery    = Call[QueryDevices, Devices]{"device.query"}
	TwinGet        = Call[DeviceRef, Twin]{"twin.get"}
	TwinPatch      = Call[PatchTwin, Twin]{"twin.patch"}
	TwinReplace    = Call[PatchTwin, Twin]{"twin.replace"}
	MethodInvoke   = Call[InvokeMethod, MethodResult]{"method.invoke"}
	MessageSend    = Call[SendMessage, QueuedMessage]{"message.send"}
	MessageList    = Call[DeviceRef, QueuedMessages]{"message.list"}
	MessagePurge   = Call[DeviceRef, Purged]{"message.purge"}
	TelemetryRead  = Call[ReadLog, LogPage]{"telemetry.read"}
	EventRead      = Call[ReadLog, LogPage]{"event.read"}
	TelemetryWatch = Feed[WatchLog, LogRecord]{"telemetry.watch"}
	EventWatch     = Feed[WatchLog, LogRecord]{"event.watch"}
	UploadList     = Call[ListUploads, Uploads]{"upload.list"}
	UploadRead     = Feed[ReadUpload, UploadChunk]{"upload.read"}
	PolicyList     = Call[None, Policies]{"policy.list"}
	PolicyRotate   = Call[RotatePolicy, Policy]{"policy.rotate"}
	AuthoritiesPut = Call[TrustedAuthorities, None]{"authorities.put"}
)

// The ways keys are rotated: a new primary or secondary one, or the two
// changing places.
const (
	RotatePrimary   = "primary"
	RotateSecondary = "secondary"
	RotateSwap      = "swap"
)

// Policy is a shared access policy of a stamp, with its keys.
type Policy struct {
	Name         string   `json:"name"`
	Rights       []string `json:"rights"`
	PrimaryKey   []byte   `json:"primaryKey"`
	SecondaryKey []byte   `json:"secondaryKey"`
}

// Policies are all of a stamp.
type Policies struct {
	Items []Policy `json:"items"`
}

// RotatePolicy asks for new keys.
type RotatePolicy struct {
	Name string `json:"name"`
	Key  string `json:"key"` // RotatePrimary, RotateSecondary or RotateSwap
}

// AuthType says how a device proves itself to the hub.
type AuthType string

// The ways, named as on the hub's service API.
const (
	AuthSAS         AuthType = "sas"
	AuthSelfSigned  AuthType = "selfSigned"
	AuthCertificate AuthType = "certificateAuthority"
	AuthNone        AuthType = "none" // a module that its device speaks for
)

// Auth is a device's credentials at the hub.
type Auth struct {
	Type                AuthType `json:"type"`
	PrimaryKey          []byte   `json:"primaryKey,omitempty"`
	SecondaryKey        []byte   `json:"secondaryKey,omitempty"`
	PrimaryThumbprint   string   `json:"primaryThumbprint,omitempty"` // hex of SHA-1 or SHA-256 over the DER leaf
	SecondaryThumbprint string   `json:"secondaryThumbprint,omitempty"`
	// CA are the authorities of which one signs the device's leaf: their DER, one
	// after the other. Empty: those that the stamp trusts; see TrustedAuthorities.
	CA []byte `json:"ca,omitempty"`
	// Issuer is the authority whose operational certificates the device may use
	// beside the credentials above, but for those Revoked, by hex serial.
	Issuer  []byte   `json:"issuer,omitempty"`
	Revoked []string `json:"revoked,omitempty"`
}

// TrustedAuthorities tells a stamp the authorities whose keys were proven. A
// device that a back end made on the stamp shows a certificate of one of them.
type TrustedAuthorities struct {
	Version int64  `json:"version"`
	DER     []byte `json:"der,omitempty"` // of all, one after the other
}

// TwinContent is the part of a twin that is carried by enrolments and moves.
type TwinContent struct {
	Tags     json.RawMessage `json:"tags,omitempty"`
	Desired  json.RawMessage `json:"desired,omitempty"`
	Reported json.RawMessage `json:"reported,omitempty"`
	// Registry and Modules are what a back end made of the device on the stamp
	// it leaves; a move takes them along.
	Registry *RegistryContent `json:"registry,omitempty"`
	Modules  []ModuleContent  `json:"modules,omitempty"`
}

// RegistryContent is what back ends set of an identity beside its credentials.
type RegistryContent struct {
	Status       string `json:"status"`
	StatusReason string `json:"statusReason,omitempty"`
	Edge         bool   `json:"edge,omitempty"`
}

// ModuleContent is a module on its way to another stamp.
type ModuleContent struct {
	ModuleID  string       `json:"moduleId"`
	ManagedBy string       `json:"managedBy,omitempty"`
	Auth      Auth         `json:"auth"`
	Twin      *TwinContent `json:"twin,omitempty"`
}

// PutIdentity creates a device on a stamp, or renews its credentials. Epoch is
// the number of the assignment: a stamp refuses one older than it has seen for
// the device, and takes the same one again without harm. Twin is used only
// when the identity is created.
type PutIdentity struct {
	DeviceID   string       `json:"deviceId"`
	Epoch      int64        `json:"epoch"`
	Auth       Auth         `json:"auth"`
	Enrollment string       `json:"enrollment"`
	Tenant     string       `json:"tenant,omitempty"` // DefaultTenant if none is named
	Twin       *TwinContent `json:"twin,omitempty"`
}

// IdentityResult tells whether the identity was made just now.
type IdentityResult struct {
	Created bool `json:"created"`
}

// RemoveIdentity takes a device off a stamp: connection cut, identity, twin
// and queue gone, a tombstone in their place. Repeating it is harmless.
type RemoveIdentity struct {
	DeviceID string `json:"deviceId"`
	Epoch    int64  `json:"epoch"` // the assignment that ends
	Reason   string `json:"reason"`
	To       string `json:"to,omitempty"` // where the device is meant to go
}

// RemovedIdentity is the receipt: what the twin was, and whether the device
// was connected when it was cut.
type RemovedIdentity struct {
	Existed   bool         `json:"existed"`
	Connected bool         `json:"connected"`
	At        time.Time    `json:"at"`
	Twin      *TwinContent `json:"twin,omitempty"`
}

// ModuleIdentity is the identity of a module of a device: "device/module".
// Whatever takes a device id of a stamp takes it too.
func ModuleIdentity(device, module string) string { return device + "/" + module }

// SplitIdentity is the reverse of ModuleIdentity; module is empty for a device.
func SplitIdentity(id string) (device, module string) {
	device, module, _ = strings.Cut(id, "/")
	return device, module
}

// DeviceRef names one device of the stamp.
type DeviceRef struct {
	DeviceID string `json:"deviceId"`
}

// DeviceRefs names several, at most MaxPage.
type DeviceRefs struct {
	DeviceIDs []string `json:"deviceIds"`
}

// MaxPage is the most items one page of any list holds.
const MaxPage = 1000

// QueryDevices asks for devices matching a condition, in order of id.
type QueryDevices struct {
	Where string `json:"where,omitempty"` // query condition; empty matches all
	// Tenant narrows to the devices of one; empty is all.
	Tenant string `json:"tenant,omitempty"`
	After  string `json:"after,omitempty"` // ids greater than this one only
	Limit  int    `json:"limit,omitempty"` // 1..MaxPage; 0 means MaxPage
	// MinMessages and Connected narrow further; see AutoMove.
	MinMessages int64 `json:"minMessages,omitempty"`
	Connected   bool  `json:"connected,omitempty"`
}

// Devices is a page of devices; More says another page follows the last id.
type Devices struct {
	Items []Device `json:"items"`
	More  bool     `json:"more"`
}

// Device is an identity with its state on one stamp.
type Device struct {
	DeviceID       string     `json:"deviceId"`
	Stamp          string     `json:"stamp"`
	Status         string     `json:"status"` // enabled, disabled
	Connected      bool       `json:"connected"`
	AuthType       AuthType   `json:"authType"`
	Enrollment     string     `json:"enrollment"`
	Tenant         string     `json:"tenant"`
	GenerationID   string     `json:"generationId"`
	Epoch          int64      `json:"epoch"`
	ModelID        string     `json:"modelId,omitempty"`
	CreatedAt      time.Time  `json:"createdAt"`
	ConnectedAt    *time.Time `json:"connectedAt,omitempty"` // last time the connection state changed
	LastActivity   *time.Time `json:"lastActivity,omitempty"`
	Messages       int64      `json:"messages"`       // telemetry accepted here
	QueuedMessages int        `json:"queuedMessages"` // cloud-to-device messages waiting
}

// Twin is the full document as back ends see it: Document is the JSON text
// {"deviceId","etag","version","tags","properties":{"desired","reported"}}.
type Twin struct {
	ETag     string          `json:"etag"`
	Document json.RawMessage `json:"document"`
}

// PatchTwin merges into (or replaces) tags and desired properties.
type PatchTwin struct {
	DeviceID string          `json:"deviceId"`
	IfMatch  string          `json:"ifMatch,omitempty"` // ETag; empty or "*" always matches
	Patch    json.RawMessage `json:"patch"`             // {"tags":{…},"properties":{"desired":{…}}}
}

// InvokeMethod calls a direct method on a connected device.
type InvokeMethod struct {
	DeviceID        string          `json:"deviceId"`
	Method          string          `json:"method"`
	Payload         json.RawMessage `json:"payload,omitempty"`
	ResponseTimeout time.Duration   `json:"responseTimeout,omitempty"` // 5 s … 300 s, default 30 s
	ConnectTimeout  time.Duration   `json:"connectTimeout,omitempty"`  // 0 … 300 s
}

// MethodResult is the device's answer.
type MethodResult struct {
	Status  int             `json:"status"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// SendMessage queues a cloud-to-device message.
type SendMessage struct {
	DeviceID      string `json:"deviceId"`
	Body          []byte `json:"body"`
	MessageID     string `json:"messageId,omitempty"` // made when empty
	CorrelationID string `json:"correlationId,omitempty"`
	UserID        string `json:"userId,omitempty"`
	ContentType   string `json:"contentType,omitempty"`
	// ContentEncoding is the character set of a text body.
	ContentEncoding string            `json:"contentEncoding,omitempty"`
	Properties      map[string]string `json:"properties,omitempty"`
	TTL             time.Duration     `json:"ttl,omitempty"`       // 1 min … 48 h, default 1 h
	ExpiresAt       *time.Time        `json:"expiresAt,omitempty"` // instead of TTL, within 48 h
	Ack             string            `json:"ack,omitempty"`       // AckNone when empty
}

// What a sender wants to hear of its message: nothing, that the device took
// it, that it did not, or either.
const (
	AckNone     = "none"
	AckPositive = "positive"
	AckNegative = "negative"
	AckFull     = "full"
)

// QueuedMessage is one message waiting for a device.
type QueuedMessage struct {
	MessageID  string    `json:"messageId"`
	Sequence   int64     `json:"sequence"`
	EnqueuedAt time.Time `json:"enqueuedAt"`
	ExpiresAt  time.Time `json:"expiresAt"`
	Deliveries int       `json:"deliveries"`
	Size       int       `json:"size"`
}

// QueuedMessages is a device's queue, oldest first.
type QueuedMessages struct {
	Items []QueuedMessage `json:"items"`
}

// Purged tells how many messages were dropped.
type Purged struct {
	Total int `json:"total"`
}

// ReadLog asks for records of the telemetry or event log, oldest first.
type ReadLog struct {
	DeviceID string `json:"deviceId,omitempty"` // empty reads all devices
	After    uint64 `json:"after,omitempty"`    // records with a greater sequence only
	Last     bool   `json:"last,omitempty"`     // the newest Limit records instead
	Limit    int    `json:"limit,omitempty"`    // 1..MaxPage, default 100
}

// LogPage is a page of records; More says that there were others.
type LogPage struct {
	Items []LogRecord `json:"items"`
	More  bool        `json:"more"`
}

// WatchLog asks for records as they come, and first those after a sequence.
type WatchLog struct {
	DeviceID string `json:"deviceId,omitempty"`
	After    uint64 `json:"after,omitempty"` // 0 means from now on
}

// LogRecord is one telemetry message or one event, as scripts see it.
type LogRecord struct {
	DeviceID         string            `json:"deviceId"`
	ModuleID         string            `json:"moduleId,omitempty"`
	Stamp            string            `json:"stamp"`
	Sequence         uint64            `json:"sequence"`
	EnqueuedTime     time.Time         `json:"enqueuedTime"`
	Kind             string            `json:"kind,omitempty"` // of an event: connected, disconnected, refused, …
	ContentType      string            `json:"contentType,omitempty"`
	Properties       map[string]string `json:"properties"`
	SystemProperties map[string]string `json:"systemProperties"`
	Body             json.RawMessage   `json:"body,omitempty"`       // when the body is JSON
	BodyBase64       []byte            `json:"bodyBase64,omitempty"` // otherwise
}

// ListUploads asks for the newest uploads.
type ListUploads struct {
	DeviceID string `json:"deviceId,omitempty"`
	Limit    int    `json:"limit,omitempty"`
}

// Upload is a file a device has sent, or was about to send.
type Upload struct {
	CorrelationID string     `json:"correlationId"`
	DeviceID      string     `json:"deviceId"`
	Blob          string     `json:"blob"`   // "device/name"
	Status        string     `json:"status"` // open, completed, failed, expired
	Size          int64      `json:"size"`
	Description   string     `json:"description,omitempty"`
	CreatedAt     time.Time  `json:"createdAt"`
	EndedAt       *time.Time `json:"endedAt,omitempty"`
}

// Uploads is a list, newest first.
type Uploads struct {
	Items []Upload `json:"items"`
}

// ReadUpload asks for the content of a file.
type ReadUpload struct {
	Blob string `json:"blob"`
}

// UploadChunk is the next part of a file. Size is that of the whole.
type UploadChunk struct {
	Size int64  `json:"size"`
	Data []byte `json:"data"`
}

// Package twin is the document each device shares with back ends: tags, which
// only back ends see, desired properties, which they set, and reported ones,
// which the device sets. The rules here are pure; the store keeps the result.
package twin

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Document is a decoded JSON object; numbers are json.Number.
type Document = map[string]any

// Section is the desired or the reported properties.
type Section struct {
	Values Document
	// Meta mirrors Values: at each node when it last changed, and for desired
	// properties in which version.
	Meta    Document
	Version int64
}

// Twin is a device's document. Values are never changed in place: an accepted
// change returns a new Twin and leaves the old one as it was.
type Twin struct {
	DeviceID string // or a module's identity
	Version  int64  // grows with every change
	Edition  int64  // grows with tags and desired properties; the ETag
	Tags     Document
	Desired  Section
	Reported Section
}

// Change is a back end's change: the new twin, and what the device is told.
type Change func(t Twin, patch []byte, now time.Time) (Twin, []byte, error)

// New returns a device's first twin.
func New(device string, content *link.TwinContent, now time.Time) (Twin, error) {
	t := Twin{DeviceID: device, Version: 1, Edition: 1, Tags: Document{}}
	empty := Section{Values: Document{}, Meta: Document{lastUpdated: stampOf(now)}, Version: 1}
	t.Desired, t.Reported = empty, empty
	if content == nil {
		return t, nil
	}
	tags, err := decode(content.Tags, "tags")
	if err != nil {
		return t, err
	}
	desired, err := decode(content.Desired, "properties.desired")
	if err != nil {
		return t, err
	}
	reported, err := decode(content.Reported, "properties.reported")
	if err != nil {
		return t, err
	}
	t.Tags = mergeValues(Document{}, tags)
	t.Desired = empty.merged(desired, stampOf(now), 1)
	t.Reported = empty.merged(reported, stampOf(now), 0)
	return t, t.check()
}

// Content is what a move carries along.
func (t Twin) Content() (c link.TwinContent, err error) {
	if c.Tags, err = Encode(t.Tags); err != nil {
		return c, err
	}
	if c.Desired, err = Encode(t.Desired.Values); err != nil {
		return c, err
	}
	c.Reported, err = Encode(t.Reported.Values)
	return c, err
}

// ETag names the present tags and desired properties.
func (t Twin) ETag() string {
	return base64.StdEncoding.EncodeToString([]byte(strconv.FormatInt(t.Edition, 10)))
}

// Matches reports whether an If-Match value is for this edition; empty and
// "*" always are. Quoted, unquoted and weak forms are accepted.
func (t Twin) Matches(ifMatch string) bool {
	text := strings.Trim(strings.TrimPrefix(strings.TrimSpace(ifMatch), "W/"), `"`)
	return text == "" || text == "*" || text == t.ETag()
}

// PatchReported merges what a device reports.
func (t Twin) PatchReported(patch []byte, now time.Time) (Twin, error) {
	document, err := decode(patch, "properties.reported")
	if err != nil {
		return t, err
	}
	changed := t
	changed.Version++
	changed.Reported = t.Reported.merged(document, stampOf(now), 0)
	changed.Reported.Version = t.Reported.Version + 1
	if err := changed.Reported.check("properties.reported", maxProperties); err != nil {
		return t, err
	}
	return changed, nil
}

// servicePatch is what back ends send. The other members of a twin are
// accepted, so that a twin that was read can be sent back, and ignored.
type servicePatch struct {
	Tags       json.RawMessage `json:"tags"`
	Properties struct {
		Desired  json.RawMessage `json:"desired"`
		Reported json.RawMessage `json:"reported"`
	} `json:"properties"`
}

// ignored are the members of a twin that a back end's patch may repeat.
var ignored = map[string]bool{
	"tags": true, "properties": true,
	"deviceId": true, "moduleId": true, "etag": true, "version": true, "deviceEtag": true, "status": true, "statusReason": true,
	"statusUpdateTime": true, "connectionState": true, "lastActivityTime": true, "cloudToDeviceMessageCount": true,
	"authenticationType": true, "x509Thumbprint": true, "modelId": true, "capabilities": true, "deviceScope": true, "parentScopes": true,
}

func parseService(patch []byte) (p servicePatch, err error) {
	members, err := decode(patch, "the patch")
	if err != nil {
		return p, err
	}
	for name := range members {
		if !ignored[name] {
			return p, problem.New(problem.Invalid, "a twin has tags and properties, not %q; desired properties stand in properties.desired", name).At(name)
		}
	}
	if err := json.Unmarshal(patch, &p); err != nil {
		return p, problem.New(problem.Invalid, "properties must be an object: %w", err).At("properties")
	}
	return p, nil
}

// Patch merges a back end's patch into tags and desired properties. null at
// the root of a section clears it. The notice is nil when desired properties
// were not part of the patch.
func (t Twin) Patch(patch []byte, now time.Time) (Twin, []byte, error) {
	p, err := parseService(patch)
	if err != nil {
		return t, nil, err
	}
	changed := t.edited()
	if len(p.Tags) > 0 {
		tags, err := decode(p.Tags, "tags")
		if err != nil {
			return t, nil, err
		}
		if tags == nil {
			changed.Tags = Document{}
		} else {
			changed.Tags = mergeValues(t.Tags, tags)
		}
	}
	var notice []byte
	if len(p.Properties.Desired) > 0 {
		desired, err := decode(p.Properties.Desired, "properties.desired")
		if err != nil {
			return t, nil, err
		}
		if desired == nil {
			desired = clearing(t.Desired.Values, Document{})
		}
		changed.Desired = t.Desired.merged(desired, stampOf(now), t.Desired.Version+1)
		changed.Desired.Version = t.Desired.Version + 1
		if notice, err = noticeOf(desired, changed.Desired.Version); err != nil {
			return t, nil, err
		}
	}
	if err := changed.check(); err != nil {
		return t, nil, err
	}
	return changed, notice, nil
}

// Replace sets tags and desired properties to what a back end sends; a section
// it leaves out becomes empty. The device is told the new document, with null
// for each top-level property that is gone.
func (t Twin) Replace(patch []byte, now time.Time) (Twin, []byte, error) {
	p, err := parseService(patch)
	if err != nil {
		return t, nil, err
	}
	tags, err := decode(p.Tags, "tags")
	if err != nil {
		return t, nil, err
	}
	desired, err := decode(p.Properties.Desired, "properties.desired")
	if err != nil {
		return t, nil, err
	}
	changed := t.edited()
	changed.Tags = mergeValues(Document{}, tags)
	version := t.Desired.Version + 1
	empty := Section{Values: Document{}, Meta: Document{lastUpdated: stampOf(now)}}
	changed.Desired = empty.merged(desired, stampOf(now), version)
	changed.Desired.Version = version
	if err := changed.check(); err != nil {
		return t, nil, err
	}
	notice, err := noticeOf(clearing(t.Desired.Values, desired), version)
	return changed, notice, err
}

func (t Twin) edited() Twin {
	t.Version++
	t.Edition++
	return t
}

// clearing is the patch that turns old into new at the top level.
func clearing(old, now Document) Document {
	patch := Document{}
	for key := range old {
		patch[key] = nil
	}
	for key, value := range now {
		patch[key] = value
	}
	return patch
}

// noticeOf is what the device is told of a change: the patch with its version.
func noticeOf(patch Document, version int64) ([]byte, error) {
	told := make(Document, len(patch)+1)
	for key, value := range patch {
		if !strings.HasPrefix(key, "$") {
			told[key] = value
		}
	}
	told["$version"] = version
	return Encode(told)
}

// DeviceView is the twin as its device sees it: no tags, no metadata.
func (t Twin) DeviceView() ([]byte, error) {
	return Encode(Document{"desired": t.Desired.view(false), "reported": t.Reported.view(false)})
}

// View is the twin as back ends see it, as a document they may add to.
func (t Twin) View() Document {
	device, module := link.SplitIdentity(t.DeviceID)
	view := Document{
		"deviceId": device, "etag": t.ETag(), "version": t.Version, "tags": t.Tags,
		"properties": Document{"desired": t.Desired.view(true), "reported": t.Reported.view(true)},
	}
	if module != "" {
		view["moduleId"] = module
	}
	return view
}

// ServiceView is View as text.
func (t Twin) ServiceView() ([]byte, error) { return Encode(t.View()) }

func (s Section) view(metadata bool) Document {
	view := make(Document, len(s.Values)+2)
	for key, value := range s.Values {
		view[key] = value
	}
	view["$version"] = s.Version
	if metadata {
		view["$metadata"] = s.Meta
	}
	return view
}

package agent

import (
	"encoding/json"
	"strings"
	"sync"

	"github.com/slipway/slipway/device/update"
)

// desiredFile is where the application finds the desired properties: a
// release's configuration and flags, without what is for the agent.
type desiredFile struct {
	name string

	mu       sync.Mutex
	document map[string]any
}

// put replaces the document.
func (f *desiredFile) put(text []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.document = nil
	return f.merge(text)
}

// patch merges a change.
func (f *desiredFile) patch(text []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.document == nil {
		return nil // the whole comes when the twin is read
	}
	return f.merge(text)
}

func (f *desiredFile) merge(text []byte) error {
	var change map[string]any
	if err := json.Unmarshal(text, &change); err != nil {
		return err
	}
	f.document = merged(f.document, change)
	shown := map[string]any{}
	for key, value := range f.document {
		if key != update.Property && !strings.HasPrefix(key, "$") {
			shown[key] = value
		}
	}
	content, err := json.MarshalIndent(shown, "", "  ")
	if err != nil {
		return err
	}
	return update.WriteFile(f.name, append(content, '\n'), 0o644)
}

// merged is a document after a change, in which null takes away.
func merged(document, change map[string]any) map[string]any {
	if document == nil {
		document = map[string]any{}
	}
	for key, value := range change {
		switch value := value.(type) {
		case nil:
			delete(document, key)
		case map[string]any:
			inner, _ := document[key].(map[string]any)
			document[key] = merged(inner, value)
		default:
			document[key] = value
		}
	}
	return document
}

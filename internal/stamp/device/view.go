package device

import (
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// never is how the registry says that something has not happened yet.
var never = time.Time{}.UTC().Format(time.RFC3339)

func stampOf(t *time.Time) string {
	if t == nil {
		return never
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// ConnectionState is Connected or Disconnected.
func (e Entry) ConnectionState() string {
	if e.Connected {
		return "Connected"
	}
	return "Disconnected"
}

// Identity is the entry as the registry shows it, keys and all.
func (e Entry) Identity() twin.Document {
	owner, module := link.SplitIdentity(e.ID)
	view := twin.Document{
		"deviceId": owner, "generationId": e.GenerationID, "etag": e.ETag(),
		"connectionState": e.ConnectionState(), "connectionStateUpdatedTime": stampOf(e.ConnectedAt), "lastActivityTime": stampOf(e.LastActivity),
		"cloudToDeviceMessageCount": e.Queued, "authentication": authentication(e.Auth),
	}
	if module != "" {
		view["moduleId"], view["managedBy"] = module, e.ManagedBy
		return view
	}
	view["status"], view["statusReason"], view["statusUpdatedTime"] = e.Status, e.StatusReason, stampOf(e.StatusAt)
	view["capabilities"] = twin.Document{"iotEdge": e.Edge}
	e.addScopes(view)
	return view
}

func (e Entry) addScopes(view twin.Document) {
	if e.Scope != "" {
		view["deviceScope"] = e.Scope
	}
	if len(e.ParentScopes) > 0 {
		view["parentScopes"] = e.ParentScopes
	}
}

func authentication(a link.Auth) twin.Document {
	return twin.Document{
		"type":           string(a.Type),
		"symmetricKey":   twin.Document{"primaryKey": key(a.PrimaryKey), "secondaryKey": key(a.SecondaryKey)},
		"x509Thumbprint": thumbprints(a),
	}
}

// key leaves a key for JSON to write as base64; none is null.
func key(k []byte) any {
	if len(k) == 0 {
		return nil
	}
	return k
}

func thumbprints(a link.Auth) twin.Document {
	view := twin.Document{"primaryThumbprint": nil, "secondaryThumbprint": nil}
	if a.PrimaryThumbprint != "" {
		view["primaryThumbprint"] = a.PrimaryThumbprint
	}
	if a.SecondaryThumbprint != "" {
		view["secondaryThumbprint"] = a.SecondaryThumbprint
	}
	return view
}

// Twin is the whole twin as back ends see it: the documents, and what the
// registry knows of the identity, without its keys.
func (e Entry) Twin(t twin.Twin) twin.Document {
	view := t.View()
	view["deviceEtag"], view["connectionState"], view["lastActivityTime"] = e.ETag(), e.ConnectionState(), stampOf(e.LastActivity)
	view["status"], view["statusReason"], view["statusUpdateTime"] = e.Status, e.StatusReason, stampOf(e.StatusAt)
	view["cloudToDeviceMessageCount"], view["authenticationType"], view["x509Thumbprint"] = e.Queued, string(e.Auth.Type), thumbprints(e.Auth)
	if len(e.Configurations) > 0 {
		view["configurations"] = e.Configurations
	}
	view["modelId"], view["capabilities"] = e.ModelID, twin.Document{"iotEdge": e.Edge}
	e.addScopes(view)
	return view
}

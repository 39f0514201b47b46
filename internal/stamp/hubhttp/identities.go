package hubhttp

import (
	"encoding/base64"
	"net/http"
	"strconv"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/throttle"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// maxList is how many identities one list holds.
const maxList = 1000

// identity is what SDKs send of a device or a module.
type identity struct {
	DeviceID       string          `json:"deviceId"`
	ModuleID       string          `json:"moduleId"`
	Status         string          `json:"status"`
	StatusReason   string          `json:"statusReason"`
	ManagedBy      string          `json:"managedBy"`
	Authentication *authentication `json:"authentication"`
	Capabilities   struct {
		Edge bool `json:"iotEdge"`
	} `json:"capabilities"`
	DeviceScope  string   `json:"deviceScope"`
	ParentScopes []string `json:"parentScopes"`
}

type authentication struct {
	Type         string `json:"type"`
	SymmetricKey struct {
		PrimaryKey   string `json:"primaryKey"`
		SecondaryKey string `json:"secondaryKey"`
	} `json:"symmetricKey"`
	X509 struct {
		Primary   string `json:"primaryThumbprint"`
		Secondary string `json:"secondaryThumbprint"`
	} `json:"x509Thumbprint"`
}

// auth reads credentials. Without a type they are what they look like; older
// SDKs send empty texts for what they leave open. None at all are keys for a new
// identity, and those it has for one that is there.
func (a *authentication) auth() (auth link.Auth, err error) {
	if a == nil {
		return link.Auth{}, nil
	}
	auth.Type = link.AuthType(a.Type)
	if auth.Type == "" {
		auth.Type = link.AuthSAS
		if a.X509.Primary != "" || a.X509.Secondary != "" {
			auth.Type = link.AuthSelfSigned
		}
	}
	if auth.PrimaryKey, err = decodeKey("primaryKey", a.SymmetricKey.PrimaryKey); err != nil {
		return auth, err
	}
	if auth.SecondaryKey, err = decodeKey("secondaryKey", a.SymmetricKey.SecondaryKey); err != nil {
		return auth, err
	}
	if auth.Type == link.AuthSelfSigned {
		auth.PrimaryThumbprint, auth.SecondaryThumbprint = a.X509.Primary, a.X509.Secondary
	}
	if auth.Type != link.AuthSAS {
		auth.PrimaryKey, auth.SecondaryKey = nil, nil
	}
	return auth, nil
}

func decodeKey(field, text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, problem.New(problem.Invalid, "a key is base64 text").At("authentication.symmetricKey." + field)
	}
	return key, nil
}

// spec is the registry's form of what was sent for the identity id.
func (i identity) spec(id string) (device.Spec, error) {
	auth, err := i.Authentication.auth()
	return device.Spec{
		ID: id, Status: i.Status, StatusReason: i.StatusReason, Auth: auth, ManagedBy: i.ManagedBy,
		Edge: i.Capabilities.Edge, Scope: i.DeviceScope, ParentScopes: i.ParentScopes,
	}, err
}

// id is the identity that a path names by one segment or two.
func (c *call) id() string {
	if len(c.args) > 1 {
		return link.ModuleIdentity(c.args[0], c.args[1])
	}
	return c.args[0]
}

// missing names what is not there the way SDKs tell devices from modules.
func missing(id string, err error) error {
	if _, module := link.SplitIdentity(id); module != "" && problem.Is(err, problem.NotFound) {
		return coded{err, "ModuleNotFound", 404010}
	}
	return err
}

// taken names a conflict the same way.
func taken(id string, err error) error {
	if _, module := link.SplitIdentity(id); module != "" {
		switch {
		case problem.Is(err, problem.Conflict):
			return coded{err, "ModuleAlreadyExistsOnDevice", 409301}
		case problem.Is(err, problem.TooLarge):
			return coded{err, "TooManyModulesOnDevice", 413003}
		}
	}
	return err
}

func (e *Edge) shown(entry device.Entry) answer {
	return answer{body: e.Hub.Live(entry).Identity(), etag: entry.ETag()}
}

func (e *Edge) getIdentity(c *call) (answer, error) {
	entry, err := e.Hub.Devices.Entry(c.ctx, c.id())
	if err != nil {
		return answer{}, missing(c.id(), err)
	}
	return e.shown(entry), nil
}

// putIdentity creates an identity, or with If-Match changes one.
func (e *Edge) putIdentity(c *call) (answer, error) {
	var sent identity
	if err := c.decode(&sent); err != nil {
		return answer{}, err
	}
	id := c.id()
	if _, module := link.SplitIdentity(id); sent.DeviceID != "" && sent.DeviceID != c.args[0] || sent.ModuleID != "" && sent.ModuleID != module {
		return answer{}, problem.New(problem.Invalid, "the body is about another identity than the path").At("deviceId")
	}
	spec, err := sent.spec(id)
	if err != nil {
		return answer{}, err
	}
	if c.ifMatch() != "" {
		entry, err := e.Hub.ChangeIdentity(c.ctx, spec, c.ifMatch(), c.actor)
		return e.shown(entry), missing(id, err)
	}
	entry, err := e.Hub.CreateIdentity(c.ctx, spec, nil, c.actor)
	if err != nil {
		return answer{}, taken(id, err)
	}
	a := e.shown(entry)
	if len(c.args) > 1 {
		a.status = http.StatusCreated
	}
	return a, nil
}

func (e *Edge) deleteIdentity(c *call) (answer, error) {
	return answer{}, missing(c.id(), e.Hub.DeleteIdentity(c.ctx, c.id(), c.ifMatch(), c.actor))
}

func (e *Edge) listDevices(c *call) (answer, error) {
	top := maxList
	if text := c.r.URL.Query().Get("top"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxList {
			return answer{}, problem.New(problem.Invalid, "a list holds 1 to %d identities, not %q", maxList, text).At("top")
		}
		top = n
	}
	entries, err := e.Hub.Devices.Entries(c.ctx, "", top)
	return e.list(entries), err
}

func (e *Edge) listModules(c *call) (answer, error) {
	entries, err := e.Hub.Devices.Modules(c.ctx, c.args[0])
	return e.list(entries), err
}

func (e *Edge) list(entries []device.Entry) answer {
	all := make([]twin.Document, 0, len(entries))
	for _, entry := range entries {
		all = append(all, e.Hub.Live(entry).Identity())
	}
	return answer{body: all}
}

func (e *Edge) purge(c *call) (answer, error) {
	purged, err := e.Hub.Purge(c.ctx, c.id())
	_, module := link.SplitIdentity(c.id())
	view := twin.Document{"deviceId": c.args[0], "moduleId": nil, "totalMessagesPurged": purged.Total}
	if module != "" {
		view["moduleId"] = module
	}
	return answer{body: view}, missing(c.id(), err)
}

// rotateKeys changes the keys of up to maxBulk identities.
func (e *Edge) rotateKeys(c *call) (answer, error) {
	var sent struct {
		PolicyKey string `json:"policyKey"`
		Devices   []struct {
			ID       string `json:"id"`
			ModuleID string `json:"moduleId"`
		} `json:"devices"`
	}
	if err := c.decode(&sent); err != nil {
		return answer{}, err
	}
	if n := len(sent.Devices); n == 0 || n > maxBulk {
		return answer{}, problem.New(problem.Invalid, "the keys of 1 to %d devices are rotated at once, not of %d", maxBulk, n).At("devices")
	}
	if err := e.Hub.Operations.Allow(throttle.Registry, len(sent.Devices)-1, e.Now()); err != nil {
		return answer{}, err
	}
	rotated, failed := []twin.Document{}, []bulkError{}
	for _, d := range sent.Devices {
		id := d.ID
		if d.ModuleID != "" {
			id = link.ModuleIdentity(d.ID, d.ModuleID)
		}
		entry, err := e.Hub.RotateKeys(c.ctx, id, sent.PolicyKey, c.actor)
		if err != nil {
			failed = append(failed, bulkErrorOf(id, "", missing(id, err)))
			continue
		}
		rotated = append(rotated, e.Hub.Live(entry).Identity())
	}
	a := answer{body: twin.Document{"policyKey": sent.PolicyKey, "rotatedKeys": rotated, "errors": failed}}
	switch {
	case len(rotated) == 0:
		a.status = http.StatusBadRequest
	case len(failed) > 0:
		a.status = http.StatusMultiStatus
	}
	return a, nil
}

func (e *Edge) deviceStatistics(c *call) (answer, error) {
	enabled, disabled, err := e.Hub.Devices.Totals(c.ctx)
	return answer{body: map[string]int64{"totalDeviceCount": enabled + disabled, "enabledDeviceCount": enabled, "disabledDeviceCount": disabled}}, err
}

func (e *Edge) serviceStatistics(*call) (answer, error) {
	return answer{body: map[string]int64{"connectedDeviceCount": e.Hub.Counts().Connected}}, nil
}

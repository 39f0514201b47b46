package fleetfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// exported is one line of a registry's export: a device, or a module of the
// device before it.
type exported struct {
	ID             string `json:"id"`
	DeviceID       string `json:"deviceId"`
	ModuleID       string `json:"moduleId"`
	ManagedBy      string `json:"managedBy"`
	Status         string `json:"status"`
	StatusReason   string `json:"statusReason"`
	ImportMode     string `json:"importMode"`
	Authentication struct {
		Type         string `json:"type"`
		SymmetricKey struct {
			PrimaryKey   string `json:"primaryKey"`
			SecondaryKey string `json:"secondaryKey"`
		} `json:"symmetricKey"`
		X509Thumbprint struct {
			PrimaryThumbprint   string `json:"primaryThumbprint"`
			SecondaryThumbprint string `json:"secondaryThumbprint"`
		} `json:"x509Thumbprint"`
	} `json:"authentication"`
	Tags       json.RawMessage `json:"tags"`
	Properties struct {
		Desired  json.RawMessage `json:"desired"`
		Reported json.RawMessage `json:"reported"`
	} `json:"properties"`
	Capabilities struct {
		IotEdge bool `json:"iotEdge"`
	} `json:"capabilities"`
}

// export reads lines of JSON. The modules of a device follow it, so a device is
// whole when a line of another comes.
type export struct {
	in   *bufio.Reader
	line int64
	next *Entry // read already
	end  error
}

func newExport(in *bufio.Reader) *export { return &export{in: in} }

// Left is empty: what an export says beyond what is known is a hub's own.
func (x *export) Left() []string { return nil }

// Next reads one device with its modules.
func (x *export) Next() (Entry, error) {
	first, alone, err := x.take()
	if err != nil || first.Err != nil {
		return first, err
	}
	if alone != nil {
		first.Err = strayModule(first.Device.DeviceID)
		return first, nil
	}
	for {
		entry, module, err := x.take()
		if err != nil {
			x.end = err
			return first, nil
		}
		if module == nil || entry.Err != nil || entry.Device.DeviceID != first.Device.DeviceID {
			x.next = &entry
			if module != nil && entry.Err == nil {
				x.next.Err = strayModule(entry.Device.DeviceID)
			}
			return first, nil
		}
		first.Device.Twin.Modules = append(first.Device.Twin.Modules, *module)
	}
}

func strayModule(device string) error {
	return problem.New(problem.Invalid, "is of device %s, which the line before it is not about", device).At("moduleId")
}

// take reads a line, of a device or a module.
func (x *export) take() (Entry, *link.ModuleContent, error) {
	if x.next != nil {
		e := *x.next
		x.next = nil
		return e, nil, nil
	}
	for {
		if x.end != nil {
			return Entry{}, nil, x.end
		}
		text, err := x.in.ReadSlice('\n')
		x.line++
		if errors.Is(err, bufio.ErrBufferFull) {
			return Entry{}, nil, problem.New(problem.TooLarge, "line %d has more than %d bytes", x.line, maxLine)
		}
		if x.end = err; err != nil && !errors.Is(err, io.EOF) {
			return Entry{}, nil, err
		}
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		var said exported
		e := Entry{Line: x.line}
		if err := json.Unmarshal(text, &said); err != nil {
			e.Err = problem.New(problem.Invalid, "is no JSON object as a registry exports it: %w", err)
			return e, nil, nil
		}
		var module *link.ModuleContent
		e.Device, module, e.Err = said.read()
		return e, module, nil
	}
}

func (s exported) read() (d link.ImportDevice, module *link.ModuleContent, err error) {
	d.DeviceID = s.ID
	if d.DeviceID == "" {
		d.DeviceID = s.DeviceID
	}
	switch {
	case d.DeviceID == "":
		return d, nil, problem.New(problem.Invalid, "is missing").At("id")
	case strings.HasPrefix(strings.ToLower(s.ImportMode), "delete"):
		return d, nil, problem.New(problem.Invalid, "is %s; an import takes devices over, and deletes none", s.ImportMode).At("importMode")
	}
	status, err := checkStatus(s.Status)
	if err != nil {
		return d, nil, err
	}
	auth, err := credentials{
		kind: link.AuthType(s.Authentication.Type), primary: s.Authentication.SymmetricKey.PrimaryKey, secondary: s.Authentication.SymmetricKey.SecondaryKey,
		primaryThumbprint: s.Authentication.X509Thumbprint.PrimaryThumbprint, secondThumbprint: s.Authentication.X509Thumbprint.SecondaryThumbprint,
	}.auth()
	if err != nil {
		return d, nil, err
	}
	twin := &link.TwinContent{Registry: &link.RegistryContent{Status: status, StatusReason: s.StatusReason, Edge: s.Capabilities.IotEdge}}
	if twin.Tags, err = section("tags", s.Tags); err != nil {
		return d, nil, err
	}
	if twin.Desired, err = section("properties.desired", s.Properties.Desired); err != nil {
		return d, nil, err
	}
	if twin.Reported, err = section("properties.reported", s.Properties.Reported); err != nil {
		return d, nil, err
	}
	if s.ModuleID == "" {
		d.Auth, d.Twin = auth, twin
		return d, nil, nil
	}
	module = &link.ModuleContent{ModuleID: s.ModuleID, ManagedBy: s.ManagedBy, Auth: link.Auth{Type: link.AuthNone}, Twin: &link.TwinContent{Tags: twin.Tags, Desired: twin.Desired, Reported: twin.Reported}}
	if auth != nil {
		module.Auth = *auth
	}
	return d, module, nil
}

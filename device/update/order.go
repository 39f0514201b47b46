package update

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Property is the property of the twin that is the updates': an Order in
// desired, a Report in reported.
const Property = "slipway"

// Order is what a device is told to run. It proves nothing: what it names is
// installed only if signed metadata names it too.
type Order struct {
	Order       int64      `json:"order"` // grows; a device works on the highest it has seen
	Release     string     `json:"release"`
	Digest      string     `json:"digest"`
	Environment string     `json:"environment"` // whose signed metadata names the artifacts
	Software    []Software `json:"software"`
	Back        bool       `json:"back,omitempty"` // it leads to an earlier release
}

// Software is one thing a device is to run.
type Software struct {
	Name      string            `json:"name"`
	Version   string            `json:"version"`
	Hardware  []string          `json:"hardware,omitempty"` // the kinds it is for; none means all
	Handler   string            `json:"handler,omitempty"`
	Artifacts []Artifact        `json:"artifacts,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
}

// Artifact is a file, named by its content.
type Artifact struct {
	File   string `json:"file"`
	Size   int64  `json:"size,omitempty"`
	SHA256 string `json:"sha256"`
}

// The phases of a device with an order, as it reports them.
const (
	ReportAccepted    = "accepted"
	ReportDownloading = "downloading"
	ReportWaiting     = "waiting" // for its maintenance window
	ReportInstalling  = "installing"
	ReportTrial       = "trial"      // it runs the new software and has not confirmed it
	ReportConfirmed   = "confirmed"  // it runs the new software for good
	ReportFailed      = "failed"     // it runs what it ran before, and never ran the new
	ReportRolledBack  = "rolledBack" // it ran the new software, and went back
)

// Report is what a device says of itself.
type Report struct {
	Hardware string            `json:"hardware,omitempty"`
	Software map[string]string `json:"software,omitempty"` // version by name, of what runs; empty: none
	Order    int64             `json:"order,omitempty"`
	Phase    string            `json:"phase,omitempty"`
	Progress int               `json:"progress,omitempty"` // of 100
	Error    string            `json:"error,omitempty"`
}

// final reports whether the order has come to its end.
func (r Report) final() bool {
	return r.Phase == ReportConfirmed || r.Phase == ReportFailed || r.Phase == ReportRolledBack
}

// Patch is the report as a change of reported properties. A merge keeps what
// is not named, so what is empty is taken away by name.
func (r Report) Patch() map[string]any {
	software := map[string]any{}
	for name, version := range r.Software {
		software[name] = orNull(version)
	}
	return map[string]any{Property: map[string]any{
		"hardware": orNull(r.Hardware), "software": software, "order": orNull(r.Order), "phase": orNull(r.Phase), "progress": orNull(r.Progress), "error": orNull(r.Error),
	}}
}

func orNull[T comparable](value T) any {
	var none T
	if value == none {
		return nil
	}
	return value
}

// The limits of an order.
const (
	maxOrder     = 256 << 10
	maxSoftware  = 100
	maxArtifacts = 50
)

// Names become parts of paths of signed metadata and names of files.
var (
	name    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}$`)
	content = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// fileName reports whether a text can be the name of a file in a directory.
func fileName(text string) bool {
	odd := func(r rune) bool { return !unicode.IsPrint(r) || r == '/' || r == '\\' }
	return text != "" && len(text) <= 200 && text != "." && text != ".." && !strings.ContainsFunc(text, odd)
}

// ParseOrder reads an order. With an error it returns the order's number as
// far as that can be read, so that who sent it can be told.
func ParseOrder(text []byte) (Order, error) {
	if len(text) > maxOrder {
		return Order{}, fmt.Errorf("an order has at most %d bytes, not %d", maxOrder, len(text))
	}
	var o Order
	if err := json.Unmarshal(text, &o); err != nil {
		return Order{Order: o.Order}, fmt.Errorf("the order cannot be read: %w", err)
	}
	if err := o.check(); err != nil {
		return Order{Order: o.Order}, err
	}
	return o, nil
}

func (o Order) check() error {
	switch {
	case o.Order < 1:
		return fmt.Errorf("order is %d; orders are counted from 1", o.Order)
	case !name.MatchString(o.Release):
		return fmt.Errorf("release is %q, which is no name", clip(o.Release))
	case !name.MatchString(o.Environment):
		return fmt.Errorf("environment is %q, which is no name", clip(o.Environment))
	case len(o.Software) > maxSoftware:
		return fmt.Errorf("an order has at most %d kinds of software, not %d", maxSoftware, len(o.Software))
	}
	seen := map[string]bool{}
	for _, s := range o.Software {
		if err := s.check(); err != nil {
			return fmt.Errorf("software %q: %w", clip(s.Name), err)
		}
		if seen[s.Name] {
			return fmt.Errorf("software %q: is named twice", s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}

func (s Software) check() error {
	switch {
	case !name.MatchString(s.Name):
		return fmt.Errorf("is no name")
	case s.Version == "" || len(s.Version) > 100 || strings.ContainsFunc(s.Version, func(r rune) bool { return r < ' ' }):
		return fmt.Errorf("version is %q, not 1 to 100 printable bytes", clip(s.Version))
	case len(s.Artifacts) > maxArtifacts:
		return fmt.Errorf("has at most %d artifacts, not %d", maxArtifacts, len(s.Artifacts))
	}
	seen := map[string]bool{}
	for _, a := range s.Artifacts {
		switch {
		case !fileName(a.File):
			return fmt.Errorf("artifact %q: is no file name", clip(a.File))
		case seen[a.File]:
			return fmt.Errorf("artifact %q: is named twice", a.File)
		case !content.MatchString(a.SHA256):
			return fmt.Errorf("artifact %q: sha256 must be 64 hex digits", a.File)
		case a.Size < 0:
			return fmt.Errorf("artifact %q: size is %d", a.File, a.Size)
		}
		seen[a.File] = true
	}
	return nil
}

// target is the path of an artifact in signed metadata.
func (o Order) target(s Software, a Artifact) string {
	return o.Environment + "/" + o.Release + "/" + s.Name + "/" + a.File
}

// suits reports whether a list of hardware means this one.
func suits(list []string, hardware string) bool {
	return len(list) == 0 || slices.Contains(list, hardware)
}

// clip keeps what others send short in errors.
func clip(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), 300)], "?")
}

package resource

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// The limits of a release.
const (
	MaxReleaseSpec = 512 << 10 // of its canonical JSON, as it goes to stamps
	maxSoftware    = 100
	maxHardware    = 100
	maxArtifacts   = 50
	maxMetadata    = 50
	maxRelRoutes   = 50
	maxMigrations  = 100
	maxSBOM        = 20
	maxNotes       = 20_000
	maxSource      = 500
)

// ReleaseSpec is a release as a file declares it: artifacts may be files
// beside it, which are sent before the release is made.
type ReleaseSpec struct {
	link.ReleaseSpec
	Software []ReleaseSoftware `json:"software,omitempty"`
	Routes   []ReleaseRoute    `json:"routes,omitempty"`
	SBOM     []ReleaseArtifact `json:"sbom,omitempty"`
}

// ReleaseRoute is a link.ReleaseRoute whose processor may be a file.
type ReleaseRoute struct {
	Name string           `json:"name"`
	Spec ReleaseRouteSpec `json:"spec"`
}

// ReleaseRouteSpec is the spec of one.
type ReleaseRouteSpec struct {
	link.RouteSpec
	Processor *ReleaseProcessor `json:"processor,omitempty"`
}

// ReleaseProcessor is a link.Processor that may be a file.
type ReleaseProcessor struct {
	link.Processor
	Artifact ReleaseArtifact `json:"artifact"`
}

// ReleaseSoftware is a link.Software whose artifacts may be files.
type ReleaseSoftware struct {
	link.Software
	Artifacts []ReleaseArtifact `json:"artifacts,omitempty"`
}

// ReleaseArtifact is an artifact by its digest, or a file to be sent.
type ReleaseArtifact struct {
	link.Artifact
	Path string `json:"path,omitempty"` // from the directory of the file that names it
}

// pending stands for the digest of a file that is not sent yet.
var pending = strings.Repeat("0", 64)

// Check holds a release against the rules that need neither its files nor the
// installation.
func (s ReleaseSpec) Check() error {
	_, err := s.Linked(func(at string, a ReleaseArtifact) (link.Artifact, error) {
		if a.Path == "" {
			return a.Artifact, nil
		}
		if a.SHA256 != "" {
			return a.Artifact, problem.New(problem.Invalid, "an artifact is named by its path or by its sha256, not by both").At(at + ".path")
		}
		a.SHA256 = pending
		if a.File == "" {
			a.File = a.Path[strings.LastIndexAny(a.Path, `/\`)+1:]
		}
		return a.Artifact, nil
	})
	return err
}

// Linked is the release with each artifact as send returns it, which is told
// where it stands.
func (s ReleaseSpec) Linked(send func(at string, a ReleaseArtifact) (link.Artifact, error)) (link.ReleaseSpec, error) {
	spec := s.ReleaseSpec
	all := func(at string, from []ReleaseArtifact) (sent []link.Artifact, err error) {
		for i, a := range from {
			one, err := send(fmt.Sprintf("%s[%d]", at, i), a)
			if err != nil {
				return nil, err
			}
			sent = append(sent, one)
		}
		return sent, nil
	}
	spec.Software, spec.Routes, spec.SBOM = nil, nil, nil
	for i, software := range s.Software {
		var err error
		if software.Software.Artifacts, err = all(fmt.Sprintf("spec.software[%d].artifacts", i), software.Artifacts); err != nil {
			return spec, err
		}
		spec.Software = append(spec.Software, software.Software)
	}
	for i, route := range s.Routes {
		linked := link.ReleaseRoute{Name: route.Name, Spec: route.Spec.RouteSpec}
		if p := route.Spec.Processor; p != nil {
			sent, err := send(fmt.Sprintf("spec.routes[%d].spec.processor.artifact", i), p.Artifact)
			if err != nil {
				return spec, err
			}
			processor := p.Processor
			processor.Artifact, linked.Spec.Processor = sent, &processor
		}
		spec.Routes = append(spec.Routes, linked)
	}
	var err error
	if spec.SBOM, err = all("spec.sbom", s.SBOM); err != nil {
		return spec, err
	}
	return CheckRelease(spec)
}

var (
	releaseName  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._+-]{0,61}[A-Za-z0-9])?$`)
	softwareName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	sha256Hex    = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// handlers are the ways in which an agent installs software.
var handlers = []string{"files", "script", "rauc", "swupdate", "container"}

// CheckRelease holds a release against the rules that need no other resource
// and returns it with defaults, and with its sets in order.
func CheckRelease(s link.ReleaseSpec) (link.ReleaseSpec, error) {
	if s.Type == "" {
		s.Type = link.ReleaseFeature
	}
	if s.Rollback == "" {
		s.Rollback = link.RollbackSafe
	}
	switch {
	case !slices.Contains([]string{link.ReleaseFeature, link.ReleaseSecurity, link.ReleaseMixed}, s.Type):
		return s, problem.New(problem.Invalid, "a release's type is feature, security or mixed, not %q", s.Type).At("spec.type")
	case !slices.Contains([]string{link.RollbackSafe, link.RollbackForwardOnly, link.RollbackRestore}, s.Rollback):
		return s, problem.New(problem.Invalid, "the way back is safe, forward-only or needs-restore, not %q", s.Rollback).At("spec.rollback")
	case len(s.Notes) > maxNotes:
		return s, problem.New(problem.Invalid, "notes have at most %d characters, not %d", maxNotes, len(s.Notes)).At("spec.notes")
	case len(s.Source) > maxSource:
		return s, problem.New(problem.Invalid, "a source has at most %d characters, not %d", maxSource, len(s.Source)).At("spec.source")
	case len(s.Software)+len(s.Configuration)+len(s.Routes)+len(s.Migrations) == 0 && len(s.Flags) == 0:
		return s, problem.New(problem.Invalid, "a release has something in it: software, configuration, routes, flags or migrations").At("spec")
	}
	var err error
	if s.Software, err = checkSoftware(s.Software); err != nil {
		return s, err
	}
	if s.Configuration, err = checkConfiguration(s.Configuration); err != nil {
		return s, err
	}
	if s.Routes, err = checkReleaseRoutes(s.Routes); err != nil {
		return s, err
	}
	if err := checkFlags(s.Flags); err != nil {
		return s, err
	}
	if err := checkReads(s.Reads); err != nil {
		return s, err
	}
	if err := checkMigrations(s.Migrations); err != nil {
		return s, err
	}
	if len(s.SBOM) > maxSBOM {
		return s, problem.New(problem.Invalid, "a release has at most %d bills of materials, not %d", maxSBOM, len(s.SBOM)).At("spec.sbom")
	}
	return s, checkArtifacts("spec.sbom", s.SBOM)
}

// checkSoftware refuses what could not be told apart on a device: two of one
// name that are for the same hardware.
func checkSoftware(all []link.Software) ([]link.Software, error) {
	if len(all) > maxSoftware {
		return nil, problem.New(problem.Invalid, "a release has at most %d pieces of software, not %d", maxSoftware, len(all)).At("spec.software")
	}
	all = slices.Clone(all)
	taken := map[string]string{} // name and hardware to where it stands
	files := map[string]string{} // likewise name and file, which is how devices fetch it
	for i := range all {
		s, at := &all[i], fmt.Sprintf("spec.software[%d]", i)
		switch {
		case !softwareName.MatchString(s.Name):
			return nil, problem.New(problem.Invalid, "software's name has 1 to 63 of letters, digits and '._-', not '._-' at its ends, unlike %q", s.Name).At(at + ".name")
		case !shown(s.Version, 100):
			return nil, problem.New(problem.Invalid, "a version has 1 to 100 printable characters").At(at + ".version")
		case s.Handler != "" && !slices.Contains(handlers, s.Handler):
			return nil, problem.New(problem.Invalid, "a handler is one of %s, not %q", strings.Join(handlers, ", "), s.Handler).At(at + ".handler")
		case len(s.Hardware) > maxHardware:
			return nil, problem.New(problem.Invalid, "name at most %d kinds of hardware, not %d", maxHardware, len(s.Hardware)).At(at + ".hardware")
		case len(s.Artifacts) > maxArtifacts:
			return nil, problem.New(problem.Invalid, "software has at most %d artifacts, not %d", maxArtifacts, len(s.Artifacts)).At(at + ".artifacts")
		case len(s.Metadata) > maxMetadata:
			return nil, problem.New(problem.Invalid, "metadata has at most %d entries, not %d", maxMetadata, len(s.Metadata)).At(at + ".metadata")
		}
		for key := range s.Metadata { // which is in the twin, with the order
			if err := checkProperty(at+".metadata."+key, key, "", 1); err != nil {
				return nil, err
			}
		}
		if err := checkArtifacts(at+".artifacts", s.Artifacts); err != nil {
			return nil, err
		}
		for j, a := range s.Artifacts {
			other, twice := files[s.Name+"/"+a.File]
			if twice {
				return nil, problem.New(problem.Invalid, "software %s has a file %s in %s already; devices fetch it by that name, so choose another", s.Name, a.File, other).At(fmt.Sprintf("%s.artifacts[%d].file", at, j))
			}
			files[s.Name+"/"+a.File] = at
		}
		s.Hardware = slices.Clone(s.Hardware)
		slices.Sort(s.Hardware)
		if err := takes(taken, *s, at); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// takes notes which hardware a piece of software is for.
func takes(taken map[string]string, s link.Software, at string) error {
	kinds := s.Hardware
	if len(kinds) == 0 {
		kinds = []string{""}
	}
	for i, kind := range kinds {
		if i > 0 && kinds[i-1] == kind {
			return problem.New(problem.Invalid, "hardware %q is named twice", kind).At(at + ".hardware")
		}
		if len(s.Hardware) > 0 && !shown(kind, 100) {
			return problem.New(problem.Invalid, "a kind of hardware has 1 to 100 printable characters").At(at + ".hardware")
		}
		other, twice := taken[s.Name+"\x00"+kind]
		if !twice {
			taken[s.Name+"\x00"+kind] = at
			continue
		}
		if kind == "" {
			kind = "all hardware"
		}
		return problem.New(problem.Invalid, "software %s for %s is in %s already", s.Name, kind, other).At(at + ".hardware")
	}
	// Beside one that is for all, a device could not tell which to take.
	for key, other := range taken {
		name, kind, _ := strings.Cut(key, "\x00")
		if name == s.Name && other != at && (kind == "") != (len(s.Hardware) == 0) {
			return problem.New(problem.Invalid, "one of software %s is for all hardware and another for some, which leaves open what a device takes; %s is the other", s.Name, other).At(at + ".hardware")
		}
	}
	return nil
}

func shown(text string, most int) bool {
	return text != "" && len(text) <= most && utf8.ValidString(text) && strings.TrimSpace(text) == text &&
		strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

func checkArtifacts(at string, all []link.Artifact) error {
	seen := map[string]bool{}
	for i, a := range all {
		at := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case !shown(a.File, 200) || strings.ContainsAny(a.File, `/\`) || a.File == "." || a.File == "..":
			return problem.New(problem.Invalid, "a file's name has 1 to 200 printable characters and no slash, unlike %q", a.File).At(at + ".file")
		case seen[a.File]:
			return problem.New(problem.Invalid, "two artifacts have the name %s", a.File).At(at + ".file")
		case !sha256Hex.MatchString(a.SHA256):
			return problem.New(problem.Invalid, "an artifact is named by its SHA-256, 64 of 0-9 and a-f, or in a file by its path").At(at + ".sha256")
		}
		seen[a.File] = true
	}
	return nil
}

// maxDepth is how deep a twin goes.
const maxDepth = 10

func checkConfiguration(c map[string]any) (map[string]any, error) {
	for key, value := range c {
		if err := checkProperty("spec.configuration."+key, key, value, 1); err != nil {
			return nil, err
		}
	}
	if _, ours := c[link.UpdateProperty]; ours {
		return nil, problem.New(problem.Invalid, "the property %s is what devices are told to run by; choose another name", link.UpdateProperty).At("spec.configuration." + link.UpdateProperty)
	}
	return c, nil
}

// checkProperty holds a property against what twins take.
func checkProperty(at, key string, value any, depth int) error {
	if key == "" || len(key) > 1024 || !utf8.ValidString(key) || strings.ContainsAny(key, ".$# ") || strings.IndexFunc(key, unicode.IsControl) >= 0 {
		return problem.New(problem.Invalid, "a property's name has 1 to 1024 characters, none of them '.', '$', '#', a space or a control character, unlike %q", key).At(at)
	}
	if depth > maxDepth {
		return problem.New(problem.Invalid, "properties go at most %d levels deep", maxDepth).At(at)
	}
	switch value := value.(type) {
	case nil:
		return problem.New(problem.Invalid, "null takes a property away, which leaving it out does as well").At(at)
	case float64:
		if math.Abs(value) > 1<<53 && value == math.Trunc(value) {
			return problem.New(problem.Invalid, "a whole number is between -2^53 and 2^53; write a longer one as text").At(at)
		}
	case map[string]any:
		for inner, v := range value {
			if err := checkProperty(at+"."+inner, inner, v, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkReleaseRoutes holds the routes of a release against the rules of all.
// A release has no environment and no secrets: what is masked stands for those
// of the environment's route of that name.
func checkReleaseRoutes(all []link.ReleaseRoute) ([]link.ReleaseRoute, error) {
	if len(all) > maxRelRoutes {
		return nil, problem.New(problem.Invalid, "a release has at most %d routes, not %d", maxRelRoutes, len(all)).At("spec.routes")
	}
	all = slices.Clone(all)
	seen := map[string]bool{}
	for i := range all {
		r, at := &all[i], fmt.Sprintf("spec.routes[%d]", i)
		if err := CheckName(KindRoute, r.Name); err != nil {
			return nil, problem.Of(err).At(at + ".name")
		}
		if seen[r.Name] {
			return nil, problem.New(problem.Invalid, "two routes have the name %s", r.Name).At(at + ".name")
		}
		seen[r.Name] = true
		if r.Spec.Environment != "" {
			return nil, problem.New(problem.Invalid, "a release's route runs in whatever environment the release does; leave it out").At(at + ".spec.environment")
		}
		r.Spec.Environment = "any"
		checked, err := CheckRoute(r.Spec)
		if err != nil {
			p := problem.Of(err)
			return nil, p.At(at + "." + p.Field)
		}
		if hasSecrets(checked) {
			return nil, problem.New(problem.Invalid, "a release holds no secrets: write %s, which stands for the secret of the environment's own route %s", Mask, r.Name).At(at + ".spec.endpoint")
		}
		checked.Environment = ""
		r.Spec = checked
	}
	return all, nil
}

func hasSecrets(s link.RouteSpec) bool {
	plain, errPlain := json.Marshal(s)
	masked, errMasked := json.Marshal(MaskRoute(s))
	return errPlain != nil || errMasked != nil || string(plain) != string(masked)
}

func checkMigrations(all []link.Migration) error {
	if len(all) > maxMigrations {
		return problem.New(problem.Invalid, "a release has at most %d migrations, not %d", maxMigrations, len(all)).At("spec.migrations")
	}
	seen := map[string]bool{}
	for i, m := range all {
		at := fmt.Sprintf("spec.migrations[%d]", i)
		switch {
		case !shown(m.Name, 100):
			return problem.New(problem.Invalid, "a migration's name has 1 to 100 printable characters").At(at + ".name")
		case seen[m.Name]:
			return problem.New(problem.Invalid, "two migrations have the name %s", m.Name).At(at + ".name")
		case m.Kind != "twin" && m.Kind != "sql":
			return problem.New(problem.Invalid, "a migration's kind is twin or sql, not %q", m.Kind).At(at + ".kind")
		case strings.TrimSpace(m.Up) == "":
			return problem.New(problem.Invalid, "a migration does something: write it as up").At(at + ".up")
		case len(m.Up) > 100_000 || len(m.Down) > 100_000:
			return problem.New(problem.Invalid, "a migration has at most 100000 characters").At(at + ".up")
		}
		if err := checkMigrationParts(at, m); err != nil {
			return err
		}
		seen[m.Name] = true
	}
	return nil
}

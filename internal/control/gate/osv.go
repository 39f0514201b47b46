package gate

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/package-url/packageurl-go"
	gocvss20 "github.com/pandatix/go-cvss/20"
	gocvss30 "github.com/pandatix/go-cvss/30"
	gocvss31 "github.com/pandatix/go-cvss/31"
	gocvss40 "github.com/pandatix/go-cvss/40"
	"golang.org/x/mod/semver"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// The limits of lists of vulnerabilities.
const (
	MaxVulnerabilities     = 16 << 20 // bytes of an upload
	maxVulnerabilities     = 20_000   // of an upload
	maxVulnerabilitiesKept = 100_000
	maxAffected            = 1000 // packages of one
)

// unrated is the severity of what nobody has rated; it counts like the worst.
const unrated = "unrated"

// osv is what counts of a document in the Open Source Vulnerability format.
type osv struct {
	ID        string     `json:"id"`
	Summary   string     `json:"summary"`
	Published time.Time  `json:"published"`
	Withdrawn *time.Time `json:"withdrawn"`
	Severity  []struct {
		Type  string `json:"type"`
		Score string `json:"score"`
	} `json:"severity"`
	Specific json.RawMessage `json:"database_specific"`
	Affected []struct {
		Package struct {
			Ecosystem string `json:"ecosystem"`
			Name      string `json:"name"`
			PURL      string `json:"purl"`
		} `json:"package"`
		affected
	} `json:"affected"`
}

// affected are the versions of a package that are vulnerable.
type affected struct {
	Versions []string       `json:"versions,omitempty"`
	Ranges   []versionRange `json:"ranges,omitempty"`
}

type versionRange struct {
	Type   string         `json:"type"`
	Events []versionEvent `json:"events"`
}

type versionEvent struct {
	Introduced   string `json:"introduced,omitempty"`
	Fixed        string `json:"fixed,omitempty"`
	LastAffected string `json:"last_affected,omitempty"`
}

// readOSV reads one document of the OSV format, a list of them, or an object
// whose vulns are one.
func readOSV(data []byte) (all []osv, err error) {
	data = bytes.TrimSpace(data)
	switch {
	case len(data) > MaxVulnerabilities:
		return nil, problem.New(problem.TooLarge, "an upload has at most %d bytes, not %d", MaxVulnerabilities, len(data))
	case len(data) > 0 && data[0] == '[':
		err = json.Unmarshal(data, &all)
	default:
		var one struct {
			osv
			Vulns []osv `json:"vulns"`
		}
		err = json.Unmarshal(data, &one)
		all = one.Vulns
		if one.ID != "" {
			all = append(all, one.osv)
		}
	}
	if err != nil {
		return nil, problem.New(problem.Invalid, "is no list of vulnerabilities in the OSV format: %s", err)
	}
	if len(all) == 0 || len(all) > maxVulnerabilities {
		return nil, problem.New(problem.Invalid, "an upload has 1 to %d vulnerabilities, not %d", maxVulnerabilities, len(all))
	}
	for _, one := range all {
		if one.ID == "" || len(one.ID) > 200 || len(one.Affected) > maxAffected {
			return nil, problem.New(problem.Invalid, "a vulnerability has an id of 1 to 200 characters and at most %d packages; look at %q", maxAffected, shortened(one.ID, 200))
		}
	}
	return all, nil
}

// severityOf is the worst that is said of a vulnerability.
func severityOf(v osv) string {
	worst := ""
	var specific struct {
		Severity string `json:"severity"`
	}
	if json.Unmarshal(v.Specific, &specific) == nil {
		worst = strings.ToLower(specific.Severity)
		if worst == "moderate" {
			worst = "medium"
		}
	}
	for _, s := range v.Severity {
		if rated := rating(s.Score); rank(rated) > rank(worst) {
			worst = rated
		}
	}
	if rank(worst) < 0 {
		return unrated
	}
	return worst
}

// rank orders severities; what is none is below all.
func rank(severity string) int {
	if severity == unrated {
		return len(resource.Severities)
	}
	return slices.Index(resource.Severities, severity)
}

// rating is the severity of a CVSS vector; empty where it cannot be read.
func rating(vector string) string {
	score := -1.0
	switch {
	case strings.HasPrefix(vector, "CVSS:4.0/"):
		if v, err := gocvss40.ParseVector(vector); err == nil {
			score = v.Score()
		}
	case strings.HasPrefix(vector, "CVSS:3.1/"):
		if v, err := gocvss31.ParseVector(vector); err == nil {
			score = v.BaseScore()
		}
	case strings.HasPrefix(vector, "CVSS:3.0/"):
		if v, err := gocvss30.ParseVector(vector); err == nil {
			score = v.BaseScore()
		}
	default:
		if v, err := gocvss20.ParseVector(vector); err == nil {
			score = v.BaseScore()
		}
	}
	switch {
	case score < 0:
		return ""
	case score < 4:
		return "low"
	case score < 7:
		return "medium"
	case score < 9:
		return "high"
	}
	return "critical"
}

// ecosystems are the types of package URLs for those of the OSV format.
var ecosystems = map[string]string{
	"npm": "npm", "pypi": "pypi", "go": "golang", "maven": "maven", "crates.io": "cargo", "nuget": "nuget", "rubygems": "gem", "packagist": "composer",
	"hex": "hex", "pub": "pub", "conan": "conan", "conancenter": "conan", "debian": "deb/debian", "ubuntu": "deb/ubuntu", "alpine": "apk/alpine", "hackage": "hackage",
}

// packageOf names a package the way vulnerabilities and components meet:
// type/namespace/name.
func packageOf(purl, ecosystem, name string) string {
	if purl != "" {
		if p, err := packageurl.FromString(purl); err == nil {
			return joined(p.Type, p.Namespace, p.Name)
		}
	}
	system, _, _ := strings.Cut(strings.ToLower(ecosystem), ":")
	kind, known := ecosystems[system]
	if !known {
		kind = system
	}
	if kind == "maven" {
		name = strings.ReplaceAll(name, ":", "/")
	}
	return joined(kind, "", name)
}

func joined(parts ...string) string {
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	name := strings.ToLower(strings.Join(parts, "/"))
	if strings.HasPrefix(name, "pypi/") {
		name = strings.NewReplacer("_", "-", ".", "-").Replace(name)
	}
	return name
}

// holds reports whether a version is vulnerable. What cannot be told counts as
// vulnerable: a list of versions rules others out, an order of versions that
// nobody knows does not.
func (a affected) holds(version string) bool {
	if slices.Contains(a.Versions, version) || slices.Contains(a.Versions, strings.TrimPrefix(version, "v")) {
		return true
	}
	unknown := len(a.Ranges) == 0
	for _, r := range a.Ranges {
		inside, known := r.holds(version)
		if inside {
			return true
		}
		unknown = unknown || !known
	}
	return unknown && len(a.Versions) == 0
}

// holds reports whether a version is in a range, and whether that is known.
func (r versionRange) holds(version string) (inside, known bool) {
	at, ok := ordered(r.Type, version)
	if !ok {
		return false, false
	}
	type edge struct {
		version string
		opens   bool
		after   bool // the version itself is still inside
	}
	var edges []edge
	for _, e := range r.Events {
		for _, one := range []edge{{e.Introduced, true, false}, {e.Fixed, false, false}, {e.LastAffected, false, true}} {
			if one.version == "" {
				continue
			}
			if one.version == "0" && one.opens {
				one.version = "0.0.0-0" // before everything
			}
			v, ok := ordered("SEMVER", one.version)
			if _, plain := ordered(r.Type, one.version); !ok || !plain && one.version != "0.0.0-0" {
				return false, false
			}
			one.version = v
			edges = append(edges, one)
		}
	}
	slices.SortStableFunc(edges, func(a, b edge) int { return semver.Compare(a.version, b.version) })
	for _, e := range edges {
		if c := semver.Compare(at, e.version); c > 0 || c == 0 && !e.after {
			inside = e.opens
		}
	}
	return inside, true
}

// ordered is a version as it is compared; ok says that its order is known.
func ordered(kind, version string) (v string, ok bool) {
	v = "v" + strings.TrimPrefix(version, "v")
	switch kind {
	case "SEMVER":
		return v, semver.IsValid(v)
	case "ECOSYSTEM": // its rules are its own, but of plain numbers
		return v, semver.IsValid(v) && !strings.ContainsAny(v, "-+")
	}
	return v, false
}

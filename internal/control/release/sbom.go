package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Component is a part that software is made of, as a bill of materials lists it.
type Component struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	PURL    string `json:"purl,omitempty" doc:"Package URL"`
}

// The limits of bills of materials.
const (
	maxSBOMBytes  = 32 << 20
	maxComponents = 50_000
	maxField      = 1000
	maxNesting    = 50
	maxItems      = 2_000_000 // of all lists and objects, so that reading takes bounded memory
)

// components reads the bills of materials of a release.
func (r *Releases) components(ctx context.Context, all []link.Artifact) ([]Component, error) {
	components := []Component{}
	for i, a := range all {
		at := fmt.Sprintf("spec.sbom[%d].sha256", i)
		content, err := r.artifacts.Open(ctx, a.SHA256)
		if err != nil {
			return nil, unusable(err, at)
		}
		text, err := io.ReadAll(io.LimitReader(content, maxSBOMBytes+1))
		if err = errors.Join(err, content.Close()); err != nil {
			return nil, err
		}
		some, err := ReadSBOM(text)
		if err != nil {
			return nil, problem.New(problem.Invalid, "%s: %s", a.File, problem.Of(err).Message).At(at)
		}
		components = append(components, some...)
	}
	slices.SortFunc(components, compareComponents)
	components = slices.Compact(components)
	if len(components) > maxComponents {
		return nil, problem.New(problem.TooLarge, "a release has at most %d components, not %d", maxComponents, len(components)).At("spec.sbom")
	}
	return components, nil
}

func compareComponents(a, b Component) int {
	return strings.Compare(a.Name+"\x00"+a.Version+"\x00"+a.PURL, b.Name+"\x00"+b.Version+"\x00"+b.PURL)
}

// bill holds what is read of a bill of materials in either form.
type bill struct {
	BOMFormat   string        `json:"bomFormat"` // of CycloneDX
	Components  []cycloneDX   `json:"components"`
	SPDXVersion string        `json:"spdxVersion"`
	Packages    []spdxPackage `json:"packages"`
}

type cycloneDX struct {
	Group      string      `json:"group"`
	Name       string      `json:"name"`
	Version    string      `json:"version"`
	PURL       string      `json:"purl"`
	Components []cycloneDX `json:"components"`
}

type spdxPackage struct {
	Name         string `json:"name"`
	Version      string `json:"versionInfo"`
	ExternalRefs []struct {
		Type    string `json:"referenceType"`
		Locator string `json:"referenceLocator"`
	} `json:"externalRefs"`
}

// ReadSBOM returns the components of a bill of materials: CycloneDX or SPDX 2,
// as JSON.
func ReadSBOM(text []byte) ([]Component, error) {
	if len(text) > maxSBOMBytes {
		return nil, problem.New(problem.TooLarge, "a bill of materials has at most %d bytes", maxSBOMBytes)
	}
	if n := bytes.Count(text, []byte{','}); n > maxItems {
		return nil, problem.New(problem.TooLarge, "a bill of materials has at most %d items in all, not %d", maxItems, n)
	}
	var b bill
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, problem.New(problem.Invalid, "a bill of materials is CycloneDX or SPDX 2 as JSON: %w", err)
	}
	var all []Component
	var err error
	switch {
	case b.BOMFormat == "CycloneDX":
		err = nested(b.Components, maxNesting, &all)
	case strings.HasPrefix(b.SPDXVersion, "SPDX-2."):
		err = packages(b.Packages, &all)
	default:
		err = problem.New(problem.Invalid, "a bill of materials is CycloneDX (bomFormat) or SPDX 2 (spdxVersion) as JSON; this is neither")
	}
	return all, err
}

func nested(components []cycloneDX, depth int, into *[]Component) error {
	if depth == 0 {
		return problem.New(problem.Invalid, "components are nested more than %d deep", maxNesting)
	}
	for _, c := range components {
		name := c.Name
		if c.Group != "" {
			name = c.Group + "/" + c.Name
		}
		if err := add(Component{name, c.Version, c.PURL}, into); err != nil {
			return err
		}
		if err := nested(c.Components, depth-1, into); err != nil {
			return err
		}
	}
	return nil
}

func packages(all []spdxPackage, into *[]Component) error {
	for _, p := range all {
		c := Component{Name: p.Name, Version: p.Version}
		for _, ref := range p.ExternalRefs {
			if ref.Type == "purl" {
				c.PURL = ref.Locator
			}
		}
		if err := add(c, into); err != nil {
			return err
		}
	}
	return nil
}

func add(c Component, into *[]Component) error {
	switch {
	case c.Name == "":
		return problem.New(problem.Invalid, "a component has no name")
	case len(c.Name) > maxField || len(c.Version) > maxField || len(c.PURL) > maxField:
		return problem.New(problem.Invalid, "a component's name, version and purl have at most %d characters each", maxField)
	case len(*into) >= maxComponents:
		return problem.New(problem.TooLarge, "a bill of materials lists at most %d components", maxComponents)
	}
	*into = append(*into, c)
	return nil
}

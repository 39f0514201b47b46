package slipway_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"

	"github.com/slipway/slipway/deploy/terraform/provider/slipway"
)

// described is what every attribute of every schema says of itself.
type described interface {
	GetMarkdownDescription() string
	IsRequired() bool
	IsOptional() bool
	IsSensitive() bool
}

// TestDocs holds the pages in docs to the schemas: they describe nothing that
// is not there. With SLIPWAY_UPDATE it writes them.
func TestDocs(t *testing.T) {
	pages := pagesOf(t)
	if len(pages) < 20 {
		t.Fatalf("there are only %d pages", len(pages))
	}
	const root = "../docs"
	if os.Getenv("SLIPWAY_UPDATE") != "" {
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
		for name, text := range pages {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept, err := filepath.Glob(root + "/*/*.md")
	if err != nil || len(kept) < 20 {
		t.Fatalf("there are only %d pages in docs (%v)", len(kept), err)
	}
	for _, file := range kept {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		now := attributesIn(pages[strings.TrimPrefix(file, root+"/")])
		for name := range attributesIn(text) {
			if !now[name] {
				t.Errorf("%s describes %s, which is not there: SLIPWAY_UPDATE=1 go test -C deploy/terraform/provider -run TestDocs ./slipway writes the pages anew", file, name)
			}
		}
	}
}

var attributeLine = regexp.MustCompile("(?m)^ *- `[a-z0-9_]+`")

func attributesIn(page []byte) map[string]bool {
	all := map[string]bool{}
	for _, line := range attributeLine.FindAll(page, -1) {
		all[string(line)] = true
	}
	return all
}

func pagesOf(t *testing.T) map[string][]byte {
	t.Helper()
	ctx := t.Context()
	p := slipway.New("test")()
	pages := map[string][]byte{}
	var of provider.SchemaResponse
	p.Schema(ctx, provider.SchemaRequest{}, &of)
	pages["index.md"] = page("Provider slipway", of.Schema.MarkdownDescription, "", descriptions(of.Schema.Attributes))
	for _, make := range p.Resources(ctx) {
		r := make()
		var name resource.MetadataResponse
		var s resource.SchemaResponse
		r.Metadata(ctx, resource.MetadataRequest{ProviderTypeName: "slipway"}, &name)
		r.Schema(ctx, resource.SchemaRequest{}, &s)
		if found := s.Schema.ValidateImplementation(ctx); found.HasError() {
			t.Errorf("%s: %v", name.TypeName, found)
		}
		if s.Schema.MarkdownDescription == "" {
			t.Errorf("%s has no description", name.TypeName)
		}
		pages["resources/"+short(name.TypeName)] = page("Resource "+name.TypeName, s.Schema.MarkdownDescription, example(t, name.TypeName), descriptions(s.Schema.Attributes))
	}
	for _, make := range p.DataSources(ctx) {
		d := make()
		var name datasource.MetadataResponse
		var s datasource.SchemaResponse
		d.Metadata(ctx, datasource.MetadataRequest{ProviderTypeName: "slipway"}, &name)
		d.Schema(ctx, datasource.SchemaRequest{}, &s)
		pages["data-sources/"+short(name.TypeName)] = page("Data source "+name.TypeName, s.Schema.MarkdownDescription, "", descriptions(s.Schema.Attributes))
	}
	for _, make := range p.(provider.ProviderWithEphemeralResources).EphemeralResources(ctx) {
		e := make()
		var name ephemeral.MetadataResponse
		var s ephemeral.SchemaResponse
		e.Metadata(ctx, ephemeral.MetadataRequest{ProviderTypeName: "slipway"}, &name)
		e.Schema(ctx, ephemeral.SchemaRequest{}, &s)
		pages["ephemeral-resources/"+short(name.TypeName)] = page("Ephemeral resource "+name.TypeName, s.Schema.MarkdownDescription, "", descriptions(s.Schema.Attributes))
	}
	return pages
}

func short(name string) string { return strings.TrimPrefix(name, "slipway_") + ".md" }

// example is what the acceptance test declares of a resource.
func example(t *testing.T, name string) string {
	text, err := os.ReadFile("testdata/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	return string(regexp.MustCompile(`(?ms)^resource "` + name + `" .*?^}\n`).Find(text))
}

func descriptions[A described](attributes map[string]A) map[string]described {
	all := map[string]described{}
	for name, a := range attributes {
		all[name] = a
	}
	return all
}

func page(title, about, example string, attributes map[string]described) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n%s\n\n", title, about)
	if example != "" {
		fmt.Fprintf(&b, "```hcl\n%s```\n\n", example)
	}
	write(&b, "", attributes)
	return b.Bytes()
}

// write lists attributes, those required first, with what is in them.
func write(b *bytes.Buffer, indent string, attributes map[string]described) {
	rank := func(d described) int {
		switch {
		case d.IsRequired():
			return 0
		case d.IsOptional():
			return 1
		}
		return 2
	}
	names := slices.SortedFunc(maps.Keys(attributes), func(x, y string) int {
		return cmp.Or(cmp.Compare(rank(attributes[x]), rank(attributes[y])), cmp.Compare(x, y))
	})
	for _, name := range names {
		a := attributes[name]
		marks := []string{"required", "optional", "read only"}[rank(a)]
		if a.IsSensitive() {
			marks += ", sensitive"
		}
		fmt.Fprintf(b, "%s- `%s` (%s)", indent, name, marks)
		if words := a.GetMarkdownDescription(); words != "" {
			fmt.Fprintf(b, ": %s", words)
		}
		b.WriteString("\n")
		switch nested := any(a).(type) {
		case schema.SingleNestedAttribute:
			write(b, indent+"  ", descriptions(nested.Attributes))
		case schema.ListNestedAttribute:
			write(b, indent+"  ", descriptions(nested.NestedObject.Attributes))
		case schema.MapNestedAttribute:
			write(b, indent+"  ", descriptions(nested.NestedObject.Attributes))
		}
	}
}

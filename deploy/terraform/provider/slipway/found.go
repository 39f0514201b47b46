package slipway

import (
	"context"
	"encoding/json"
	"reflect"

	"github.com/hashicorp/terraform-plugin-framework-jsontypes/jsontypes"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/slipway/slipway/internal/link"
)

// found is a data source of one kind: a resource that others declare, with what
// is so of it.
type found struct {
	connected
	kind
}

func newFound(name string) datasource.DataSource {
	k := kindOf(name)
	k.root.members = append(k.root.members, field{name: "status", key: "status", form: document})
	return &found{kind: k}
}

func (f *found) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = f.typeName()
}

func (f *found) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	all := shown(f.root.members)
	all["name"] = schema.StringAttribute{Required: true, MarkdownDescription: "Which one"}
	all["etag"] = schema.StringAttribute{Computed: true, MarkdownDescription: "Version of what is stored"}
	all["status"] = schema.StringAttribute{Computed: true, MarkdownDescription: "What is so of it, as JSON", CustomType: jsontypes.NormalizedType{}}
	resp.Schema = schema.Schema{MarkdownDescription: f.described(), Attributes: all}
}

func (f *found) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	f.take(req.ProviderData)
}

func (f *found) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var name string
	if resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("name"), &name)...); resp.Diagnostics.HasError() || !f.ready() {
		return
	}
	stored, err := f.at.client.Resource(ctx, f.kind.name, name, false)
	if err != nil {
		f.root.refused(&resp.Diagnostics, err)
		return
	}
	server, err := flat(stored)
	if err == nil && len(stored.Status) > 0 {
		var status any
		err = decode(stored.Status, &status)
		server["status"] = status
	}
	if err == nil {
		resp.State.Raw, err = f.root.told(req.Config.Raw.Type(), server, req.Config.Raw, false)
	}
	if err != nil {
		resp.Diagnostics.AddError("What the installation says is not understood", err.Error())
	}
}

// scope is a data source: where devices register, and by which id scope.
type scope struct {
	connected
	root field
}

func newScope() datasource.DataSource {
	return &scope{root: field{form: object, members: fieldsOf(reflect.TypeFor[link.Scope]())}}
}

func (s *scope) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = "slipway_scope"
}

func (s *scope) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{MarkdownDescription: "What devices are built with: the id scope, and where they register.", Attributes: shown(s.root.members)}
}

func (s *scope) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	s.take(req.ProviderData)
}

func (s *scope) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	if !s.ready() {
		return
	}
	told, err := s.at.client.Scope(ctx)
	if err != nil {
		s.root.refused(&resp.Diagnostics, err)
		return
	}
	server := map[string]any{}
	text, err := json.Marshal(told)
	if err == nil {
		err = decode(text, &server)
	}
	kind := req.Config.Raw.Type()
	if err == nil {
		resp.State.Raw, err = s.root.told(kind, server, tftypes.NewValue(kind, nil), false)
	}
	if err != nil {
		resp.Diagnostics.AddError("What the installation says is not understood", err.Error())
	}
}

package slipway

import (
	"github.com/hashicorp/terraform-plugin-framework-jsontypes/jsontypes"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	data "github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// attribute is a field as a resource has it. What need not be said is computed
// too: the installation says what it is then.
func (f field) attribute() schema.Attribute {
	optional := !f.required
	switch f.form {
	case boolean:
		return schema.BoolAttribute{MarkdownDescription: f.words, Required: f.required, Optional: optional, Computed: optional, Sensitive: f.secret}
	case integer:
		return schema.Int64Attribute{MarkdownDescription: f.words, Required: f.required, Optional: optional, Computed: optional, Sensitive: f.secret}
	case number:
		return schema.Float64Attribute{MarkdownDescription: f.words, Required: f.required, Optional: optional, Computed: optional, Sensitive: f.secret}
	case document:
		return schema.StringAttribute{MarkdownDescription: f.words, Required: f.required, Optional: optional, Computed: optional, Sensitive: f.secret, CustomType: jsontypes.NormalizedType{}}
	case object:
		return schema.SingleNestedAttribute{MarkdownDescription: f.words, Required: f.required, Optional: optional, Computed: optional, Sensitive: f.secret, Attributes: attributes(f.members)}
	case list:
		if f.of.form == object {
			return schema.ListNestedAttribute{MarkdownDescription: f.words, Required: f.required, Optional: optional, Computed: optional, Sensitive: f.secret,
				NestedObject: schema.NestedAttributeObject{Attributes: attributes(f.of.members)}}
		}
		return schema.ListAttribute{MarkdownDescription: f.words, Required: f.required, Optional: optional, Computed: optional, Sensitive: f.secret, ElementType: f.of.kind()}
	case mapping:
		if f.of.form == object {
			return schema.MapNestedAttribute{MarkdownDescription: f.words, Required: f.required, Optional: optional, Computed: optional, Sensitive: f.secret,
				NestedObject: schema.NestedAttributeObject{Attributes: attributes(f.of.members)}}
		}
		return schema.MapAttribute{MarkdownDescription: f.words, Required: f.required, Optional: optional, Computed: optional, Sensitive: f.secret, ElementType: f.of.kind()}
	}
	return schema.StringAttribute{MarkdownDescription: f.words, Required: f.required, Optional: optional, Computed: optional, Sensitive: f.secret}
}

func attributes(fields []field) map[string]schema.Attribute {
	all := map[string]schema.Attribute{}
	for _, f := range fields {
		all[f.name] = f.attribute()
	}
	return all
}

// shown are fields as a data source has them: read, never said.
func shown(fields []field) map[string]data.Attribute {
	all := map[string]data.Attribute{}
	for _, f := range fields {
		all[f.name] = f.shown()
	}
	return all
}

func (f field) shown() data.Attribute {
	switch {
	case f.form == object:
		return data.SingleNestedAttribute{MarkdownDescription: f.words, Computed: true, Sensitive: f.secret, Attributes: shown(f.members)}
	case f.form == list && f.of.form == object:
		return data.ListNestedAttribute{MarkdownDescription: f.words, Computed: true, Sensitive: f.secret, NestedObject: data.NestedAttributeObject{Attributes: shown(f.of.members)}}
	case f.form == mapping && f.of.form == object:
		return data.MapNestedAttribute{MarkdownDescription: f.words, Computed: true, Sensitive: f.secret, NestedObject: data.NestedAttributeObject{Attributes: shown(f.of.members)}}
	case f.form == list:
		return data.ListAttribute{MarkdownDescription: f.words, Computed: true, Sensitive: f.secret, ElementType: f.of.kind()}
	case f.form == mapping:
		return data.MapAttribute{MarkdownDescription: f.words, Computed: true, Sensitive: f.secret, ElementType: f.of.kind()}
	case f.form == boolean:
		return data.BoolAttribute{MarkdownDescription: f.words, Computed: true, Sensitive: f.secret}
	case f.form == integer:
		return data.Int64Attribute{MarkdownDescription: f.words, Computed: true, Sensitive: f.secret}
	case f.form == number:
		return data.Float64Attribute{MarkdownDescription: f.words, Computed: true, Sensitive: f.secret}
	case f.form == document:
		return data.StringAttribute{MarkdownDescription: f.words, Computed: true, Sensitive: f.secret, CustomType: jsontypes.NormalizedType{}}
	}
	return data.StringAttribute{MarkdownDescription: f.words, Computed: true, Sensitive: f.secret}
}

// kind is the type of a list's or mapping's elements.
func (f field) kind() attr.Type {
	switch f.form {
	case boolean:
		return types.BoolType
	case integer:
		return types.Int64Type
	case number:
		return types.Float64Type
	case document:
		return jsontypes.NormalizedType{}
	case list:
		return types.ListType{ElemType: f.of.kind()}
	case mapping:
		return types.MapType{ElemType: f.of.kind()}
	}
	return types.StringType
}

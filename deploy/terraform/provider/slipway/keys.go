package slipway

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/slipway/slipway/internal/link"
	kinds "github.com/slipway/slipway/internal/resource"
)

// keys are an enrolment's symmetric keys, read while Terraform runs and kept in
// no state. The audit log records that they were read.
type keys struct{ connected }

func newKeys() ephemeral.EphemeralResource { return &keys{} }

type keysModel struct {
	Group     types.String `tfsdk:"group"`
	Enrolment types.String `tfsdk:"enrollment"`
	Primary   types.String `tfsdk:"primary_key"`
	Secondary types.String `tfsdk:"secondary_key"`
}

func (k *keys) Metadata(_ context.Context, _ ephemeral.MetadataRequest, resp *ephemeral.MetadataResponse) {
	resp.TypeName = "slipway_keys"
}

func (k *keys) Schema(_ context.Context, _ ephemeral.SchemaRequest, resp *ephemeral.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "The symmetric keys of an enrolment, read while Terraform runs and kept in no state. Reading them takes the permission secret.read, and is recorded in the audit log.",
		Attributes: map[string]schema.Attribute{
			"group":         schema.StringAttribute{Optional: true, MarkdownDescription: "Name of an enrolment group"},
			"enrollment":    schema.StringAttribute{Optional: true, MarkdownDescription: "Name of an individual enrolment, instead of a group's"},
			"primary_key":   schema.StringAttribute{Computed: true, Sensitive: true, MarkdownDescription: "Base64"},
			"secondary_key": schema.StringAttribute{Computed: true, Sensitive: true, MarkdownDescription: "Base64"},
		},
	}
}

func (k *keys) Configure(_ context.Context, req ephemeral.ConfigureRequest, _ *ephemeral.ConfigureResponse) {
	k.take(req.ProviderData)
}

func (k *keys) Open(ctx context.Context, req ephemeral.OpenRequest, resp *ephemeral.OpenResponse) {
	var m keysModel
	if resp.Diagnostics.Append(req.Config.Get(ctx, &m)...); resp.Diagnostics.HasError() {
		return
	}
	kind, name := kinds.KindEnrollmentGroup, m.Group.ValueString()
	if name == "" {
		kind, name = kinds.KindEnrollment, m.Enrolment.ValueString()
	}
	if name == "" || m.Group.ValueString() != "" && m.Enrolment.ValueString() != "" {
		resp.Diagnostics.AddError("Whose keys?", "Name either a group or an enrollment.")
		return
	}
	stored, err := k.at.client.Resource(ctx, kind, name, true)
	if err != nil {
		field{}.refused(&resp.Diagnostics, err)
		return
	}
	spec, err := kinds.SpecOf[link.EnrollmentSpec](stored.Resource)
	if err != nil || spec.Attestation.SymmetricKey == nil {
		resp.Diagnostics.AddError("It has no symmetric keys", words(kind)+" "+name+" attests its devices otherwise.")
		return
	}
	m.Primary, m.Secondary = types.StringValue(spec.Attestation.SymmetricKey.PrimaryKey), types.StringValue(spec.Attestation.SymmetricKey.SecondaryKey)
	resp.Diagnostics.Append(resp.Result.Set(ctx, m)...)
}

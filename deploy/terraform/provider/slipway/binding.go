package slipway

import (
	"context"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/listplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/slipway/slipway/internal/control/access"
)

// roleBinding says that somebody has a role, within bounds. It is given and
// taken back, never changed.
type roleBinding struct{ connected }

func newRoleBinding() resource.Resource { return &roleBinding{} }

type bindingModel struct {
	ID           types.String `tfsdk:"id"`
	Role         types.String `tfsdk:"role"`
	Account      types.String `tfsdk:"account"`
	Group        types.String `tfsdk:"group"`
	Environments types.List   `tfsdk:"environments"`
	Stamps       types.List   `tfsdk:"stamps"`
	Tenants      types.List   `tfsdk:"tenants"`
}

func (b *roleBinding) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "slipway_role_binding"
}

func (b *roleBinding) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	another, others := []planmodifier.String{stringplanmodifier.RequiresReplace()}, []planmodifier.List{listplanmodifier.RequiresReplace()}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Says that an account, or a group of an identity provider, has a role within bounds. A change takes it back and gives another.",
		Attributes: map[string]schema.Attribute{
			"id":           schema.StringAttribute{Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()}, MarkdownDescription: "Of the binding; `slipway role list` shows it"},
			"role":         schema.StringAttribute{Required: true, PlanModifiers: another, MarkdownDescription: "Which role"},
			"account":      schema.StringAttribute{Optional: true, PlanModifiers: another, MarkdownDescription: "Whose"},
			"group":        schema.StringAttribute{Optional: true, PlanModifiers: another, MarkdownDescription: "Of an identity provider, instead of an account"},
			"environments": schema.ListAttribute{Optional: true, ElementType: types.StringType, PlanModifiers: others, MarkdownDescription: "Only there; none means everywhere"},
			"stamps":       schema.ListAttribute{Optional: true, ElementType: types.StringType, PlanModifiers: others, MarkdownDescription: "Only on these"},
			"tenants":      schema.ListAttribute{Optional: true, ElementType: types.StringType, PlanModifiers: others, MarkdownDescription: "Only for these"},
		},
	}
}

func (b *roleBinding) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	resource.ImportStatePassthroughID(ctx, path.Root("id"), req, resp)
}

func (b *roleBinding) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m bindingModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	given := access.Binding{Role: m.Role.ValueString(), Account: m.Account.ValueString(), Group: m.Group.ValueString()}
	resp.Diagnostics.Append(m.Environments.ElementsAs(ctx, &given.Bounds.Environments, false)...)
	resp.Diagnostics.Append(m.Stamps.ElementsAs(ctx, &given.Bounds.Stamps, false)...)
	resp.Diagnostics.Append(m.Tenants.ElementsAs(ctx, &given.Bounds.Tenants, false)...)
	if resp.Diagnostics.HasError() {
		return
	}
	made, err := b.at.client.GiveRole(ctx, given)
	if err != nil {
		field{}.refused(&resp.Diagnostics, err)
		return
	}
	m.ID = types.StringValue(made.ID)
	resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
}

func (b *roleBinding) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m bindingModel
	if resp.Diagnostics.Append(req.State.Get(ctx, &m)...); resp.Diagnostics.HasError() || !b.ready() {
		return
	}
	all, err := b.at.client.Bindings(ctx)
	if err != nil {
		field{}.refused(&resp.Diagnostics, err)
		return
	}
	i := slices.IndexFunc(all, func(one access.Binding) bool { return one.ID == m.ID.ValueString() })
	if i < 0 {
		resp.State.RemoveResource(ctx)
		return
	}
	m.Role, m.Account, m.Group = types.StringValue(all[i].Role), optional(all[i].Account), optional(all[i].Group)
	for _, bound := range []struct {
		into  *types.List
		names []string
	}{{&m.Environments, all[i].Bounds.Environments}, {&m.Stamps, all[i].Bounds.Stamps}, {&m.Tenants, all[i].Bounds.Tenants}} {
		if len(bound.names) == 0 && len(bound.into.Elements()) == 0 {
			continue // [] and nothing are the same
		}
		names, failed := types.ListValueFrom(ctx, types.StringType, bound.names)
		resp.Diagnostics.Append(failed...)
		*bound.into = names
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
}

// Update is never asked for: every attribute that can change takes another
// binding.
func (b *roleBinding) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	resp.State.Raw = req.Plan.Raw
}

func (b *roleBinding) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var m bindingModel
	if resp.Diagnostics.Append(req.State.Get(ctx, &m)...); resp.Diagnostics.HasError() {
		return
	}
	if err := b.at.client.TakeRole(ctx, m.ID.ValueString()); err != nil && !gone(err) {
		field{}.refused(&resp.Diagnostics, err)
	}
}

package slipway

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
)

// account is a person, a service or an agent.
type account struct{ connected }

func newAccount() resource.Resource { return &account{} }

type accountModel struct {
	ID       types.String `tfsdk:"id"`
	Kind     types.String `tfsdk:"kind"`
	Name     types.String `tfsdk:"name"`
	Email    types.String `tfsdk:"email"`
	Sponsor  types.String `tfsdk:"sponsor"`
	Disabled types.Bool   `tfsdk:"disabled"`
}

func (a *account) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "slipway_account"
}

func (a *account) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	another := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	resp.Schema = schema.Schema{
		MarkdownDescription: "A person, a service or an agent, as Slipway knows it. How people come to a password is not declared: `slipway account invite` makes the code.",
		Attributes: map[string]schema.Attribute{
			"id":       schema.StringAttribute{Required: true, PlanModifiers: another, MarkdownDescription: "Unique among accounts"},
			"kind":     schema.StringAttribute{Optional: true, Computed: true, Default: stringdefault.StaticString(string(access.Human)), PlanModifiers: another, MarkdownDescription: "person, service or agent; default person"},
			"name":     schema.StringAttribute{Optional: true, PlanModifiers: another, MarkdownDescription: "As people read it"},
			"email":    schema.StringAttribute{Optional: true, PlanModifiers: another},
			"sponsor":  schema.StringAttribute{Optional: true, Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()}, MarkdownDescription: "Of a program: the person who answers for it"},
			"disabled": schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(false), MarkdownDescription: "It, its tokens and the programs it answers for do nothing any more"},
		},
	}
}

func (a *account) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	resource.ImportStatePassthroughID(ctx, path.Root("id"), req, resp)
}

func accountModelOf(a access.Account) accountModel {
	return accountModel{
		ID: types.StringValue(a.ID), Kind: types.StringValue(string(a.Kind)), Name: optional(a.Name), Email: optional(a.Email), Sponsor: optional(a.Sponsor), Disabled: types.BoolValue(a.Disabled),
	}
}

// optional is a text that the API leaves out where there is none.
func optional(text string) types.String {
	if text == "" {
		return types.StringNull()
	}
	return types.StringValue(text)
}

// gone tells whether something is not there any more.
func gone(err error) bool { return problem.Is(err, problem.NotFound) }

func (a *account) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m accountModel
	if resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...); resp.Diagnostics.HasError() {
		return
	}
	made, err := a.at.client.AddAccount(ctx, access.NewAccount{
		ID: m.ID.ValueString(), Kind: access.Kind(m.Kind.ValueString()), Name: m.Name.ValueString(), Email: m.Email.ValueString(), Sponsor: m.Sponsor.ValueString(),
	})
	if err == nil && m.Disabled.ValueBool() {
		made, err = a.at.client.ChangeAccount(ctx, made.ID, "disable")
	}
	if err != nil {
		field{}.refused(&resp.Diagnostics, err)
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, accountModelOf(made))...)
}

func (a *account) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m accountModel
	if resp.Diagnostics.Append(req.State.Get(ctx, &m)...); resp.Diagnostics.HasError() || !a.ready() {
		return
	}
	found, err := a.at.client.Account(ctx, m.ID.ValueString())
	if gone(err) {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		field{}.refused(&resp.Diagnostics, err)
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, accountModelOf(found))...)
}

func (a *account) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var was, m accountModel
	resp.Diagnostics.Append(req.State.Get(ctx, &was)...)
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	id := m.ID.ValueString()
	var err error
	if !m.Sponsor.Equal(was.Sponsor) && m.Sponsor.ValueString() != "" {
		_, err = a.at.client.SetSponsor(ctx, id, m.Sponsor.ValueString())
	}
	if err == nil && !m.Disabled.Equal(was.Disabled) {
		verb := "enable"
		if m.Disabled.ValueBool() {
			verb = "disable"
		}
		_, err = a.at.client.ChangeAccount(ctx, id, verb)
	}
	var now access.Account
	if err == nil {
		now, err = a.at.client.Account(ctx, id)
	}
	if err != nil {
		field{}.refused(&resp.Diagnostics, err)
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, accountModelOf(now))...)
}

func (a *account) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var m accountModel
	if resp.Diagnostics.Append(req.State.Get(ctx, &m)...); resp.Diagnostics.HasError() {
		return
	}
	if err := a.at.client.DeleteAccount(ctx, m.ID.ValueString()); err != nil && !gone(err) {
		field{}.refused(&resp.Diagnostics, err)
	}
}

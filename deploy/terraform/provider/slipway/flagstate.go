package slipway

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-jsontypes/jsontypes"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/slipway/slipway/internal/flag"
)

// flagState is what one environment says of a flag beside its definition. A
// kill switch is no part of it: people throw it, and Terraform leaves it alone.
type flagState struct{ connected }

func newFlagState() resource.Resource { return &flagState{} }

type flagStateModel struct {
	Environment    types.String         `tfsdk:"environment"`
	Flag           types.String         `tfsdk:"flag"`
	State          types.String         `tfsdk:"state"`
	DefaultVariant types.String         `tfsdk:"default_variant"`
	Targeting      jsontypes.Normalized `tfsdk:"targeting"`
	Reason         types.String         `tfsdk:"reason"`
}

func (f *flagState) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "slipway_flag_state"
}

func (f *flagState) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	another := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	resp.Schema = schema.Schema{
		MarkdownDescription: "What one environment says of a flag beside its definition. What is left out is as the definition has it. A kill switch that somebody throws is no drift, and stays thrown.",
		Attributes: map[string]schema.Attribute{
			"environment":     schema.StringAttribute{Required: true, PlanModifiers: another, MarkdownDescription: "Where"},
			"flag":            schema.StringAttribute{Required: true, PlanModifiers: another, MarkdownDescription: "Which flag"},
			"state":           schema.StringAttribute{Optional: true, MarkdownDescription: "ENABLED or DISABLED"},
			"default_variant": schema.StringAttribute{Optional: true, MarkdownDescription: "Whose value they get for whom no rule chooses"},
			"targeting":       schema.StringAttribute{Optional: true, CustomType: jsontypes.NormalizedType{}, MarkdownDescription: "A rule in JsonLogic instead of the definition's; {} is none"},
			"reason":          schema.StringAttribute{Optional: true, Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()}, MarkdownDescription: "Why, for the flag's history. Default: declared with Terraform"},
		},
	}
}

// ImportState takes ENVIRONMENT/FLAG.
func (f *flagState) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	environment, key, ok := strings.Cut(req.ID, "/")
	if !ok {
		resp.Diagnostics.AddError("Which state of which flag?", "It is imported by ENVIRONMENT/FLAG, such as production/new-dashboard, not by "+req.ID)
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("environment"), environment)...)
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("flag"), key)...)
}

func (m flagStateModel) overlay() flag.Overlay {
	o := flag.Overlay{State: m.State.ValueString(), DefaultVariant: m.DefaultVariant.ValueStringPointer()}
	if !m.Targeting.IsNull() {
		o.Targeting = json.RawMessage(m.Targeting.ValueString())
	}
	return o
}

// take makes the model what an environment says, if it says anything but that
// a kill switch is thrown.
func (m *flagStateModel) take(o flag.Overlay) bool {
	m.State, m.DefaultVariant, m.Targeting = optional(o.State), types.StringPointerValue(o.DefaultVariant), jsontypes.NewNormalizedNull()
	if len(o.Targeting) > 0 {
		m.Targeting = jsontypes.NewNormalizedValue(string(o.Targeting))
	}
	o.Killed = ""
	return !o.Plain()
}

// patience is how long a flag or an environment that was made just before may
// take to be known to the flags' evaluation.
const patience = 30 * time.Second

// say has the environment say what is planned.
func (f *flagState) say(ctx context.Context, plan tfsdk.Plan, state *tfsdk.State, diagnostics *diag.Diagnostics) {
	var m flagStateModel
	if diagnostics.Append(plan.Get(ctx, &m)...); diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := f.at.client.SetFlag(ctx, m.Environment.ValueString(), m.Flag.ValueString(), m.overlay(), m.because(), "")
		if !gone(err) {
			if err != nil {
				overlayFields.refused(diagnostics, err)
				return
			}
			m.Reason = types.StringValue(m.because())
			diagnostics.Append(state.Set(ctx, m)...)
			return
		}
		select {
		case <-ctx.Done():
			overlayFields.refused(diagnostics, err)
			return
		case <-time.After(time.Second):
		}
	}
}

// because is the reason for the flag's history.
func (m flagStateModel) because() string {
	if m.Reason.ValueString() == "" {
		return "declared with Terraform"
	}
	return m.Reason.ValueString()
}

var overlayFields = field{form: object, members: fieldsOf(reflect.TypeFor[flag.Overlay]())}

func (f *flagState) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	f.say(ctx, req.Plan, &resp.State, &resp.Diagnostics)
}

func (f *flagState) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	f.say(ctx, req.Plan, &resp.State, &resp.Diagnostics)
}

func (f *flagState) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m flagStateModel
	if resp.Diagnostics.Append(req.State.Get(ctx, &m)...); resp.Diagnostics.HasError() || !f.ready() {
		return
	}
	all, err := f.at.client.Flags(ctx)
	if err != nil {
		field{}.refused(&resp.Diagnostics, err)
		return
	}
	for _, one := range all {
		if one.Key != m.Flag.ValueString() {
			continue
		}
		for _, in := range one.Environments {
			if in.Environment == m.Environment.ValueString() && in.Said != nil && m.take(in.Said.Overlay) {
				m.Reason = types.StringValue(in.Said.Reason)
				resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
				return
			}
		}
	}
	resp.State.RemoveResource(ctx)
}

func (f *flagState) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var m flagStateModel
	if resp.Diagnostics.Append(req.State.Get(ctx, &m)...); resp.Diagnostics.HasError() {
		return
	}
	if _, err := f.at.client.SetFlag(ctx, m.Environment.ValueString(), m.Flag.ValueString(), flag.Overlay{}, m.because(), ""); err != nil && !gone(err) {
		field{}.refused(&resp.Diagnostics, err)
	}
}

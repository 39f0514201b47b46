package slipway

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/problem"
	kinds "github.com/slipway/slipway/internal/resource"
)

// kind is a kind of the API's resources, as Terraform sees it.
type kind struct {
	name string // in the API
	root field  // all of its attributes: name and etag beside the spec's
}

func kindOf(name string) kind {
	members := []field{{name: "name", key: "name", form: text, required: true}, {name: "etag", key: "etag", form: text}}
	for _, f := range fieldsOf(kinds.SpecType(name)) {
		if slices.Contains(reserved, f.name) {
			f.name = snake(name) + "_" + f.name
		}
		members = append(members, f)
	}
	return kind{name, field{form: object, members: members}}
}

// reserved are the names that Terraform keeps for itself, and that a kind has
// anyway.
var reserved = []string{"name", "etag", "count", "for_each", "provider", "lifecycle", "depends_on", "connection", "provisioner"}

// described says what a kind is.
func (k kind) described() string {
	return cmp.Or(about[k.name], "A "+words(k.name)+", as the installation's API has it.")
}

// typeName is that of the resource and of the data source.
func (k kind) typeName() string { return "slipway_" + snake(k.name) }

// flat is a stored resource as one document, like the attributes.
func flat(s client.Stored) (map[string]any, error) {
	all := map[string]any{}
	if err := decode(s.Spec, &all); err != nil {
		return nil, err
	}
	all["name"], all["etag"] = s.Metadata.Name, s.Metadata.ETag
	return all, nil
}

// declaration is what a configuration declares.
func (k kind) declaration(config tftypes.Value) (r kinds.Resource, known bool, err error) {
	said, known, err := k.root.spoken(config)
	if err != nil || !known {
		return r, known, err
	}
	spec := said.(map[string]any)
	name, _ := spec["name"].(string)
	delete(spec, "name")
	delete(spec, "etag")
	body, err := json.Marshal(spec)
	return kinds.Resource{APIVersion: kinds.APIVersion, Kind: k.name, Metadata: kinds.Metadata{Name: name}, Spec: body}, true, err
}

// declared is a resource of one kind.
type declared struct {
	connected
	kind
}

func newDeclared(name string) resource.Resource { return &declared{kind: kindOf(name)} }

func (d *declared) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = d.typeName()
}

func (d *declared) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	all := attributes(d.root.members)
	all["name"] = schema.StringAttribute{Required: true, MarkdownDescription: "Unique among the resources of its kind. Another name is another resource", PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()}}
	all["etag"] = schema.StringAttribute{Computed: true, MarkdownDescription: "Version of what is stored"}
	resp.Schema = schema.Schema{MarkdownDescription: d.described(), Attributes: all}
}

func (d *declared) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	resource.ImportStatePassthroughID(ctx, path.Root("name"), req, resp)
}

// ModifyPlan has the installation complete the plan: its defaults, and the
// version that tells whether a secret differs, which is never shown.
func (d *declared) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() || !d.ready() {
		return
	}
	wanted, known, err := d.declaration(req.Config.Raw)
	if err != nil {
		d.root.refused(&resp.Diagnostics, err)
		return
	}
	if !known {
		return
	}
	would, err := d.at.client.Put(ctx, wanted, "", true)
	switch {
	case refers(err):
		return // it names what this very plan may make first; applying tells
	case problem.Is(err, problem.Denied):
		resp.Diagnostics.AddWarning("This plan is not complete", "The token may not change this, so the installation was not asked what it would store: defaults stay as they are, and a secret that differs is not seen. "+problem.Of(err).Message)
		return
	case err != nil:
		d.root.refused(&resp.Diagnostics, err)
		return
	}
	planned, err := d.complete(would, req.Config.Raw, true)
	if err != nil {
		resp.Diagnostics.AddError("What the installation says is not understood", err.Error())
		return
	}
	if resp.Plan.Raw, err = withETag(planned, req.State, would.Metadata.ETag); err != nil {
		resp.Diagnostics.AddError("What the installation says is not understood", err.Error())
	}
}

// withETag is a plan with the version it has now, if it stays, and one that is
// not known otherwise.
func withETag(planned tftypes.Value, state tfsdk.State, would string) (tftypes.Value, error) {
	var all, before map[string]tftypes.Value
	if err := planned.As(&all); err != nil {
		return planned, err
	}
	all = maps.Clone(all)
	all["etag"] = tftypes.NewValue(tftypes.String, tftypes.UnknownValue)
	if !state.Raw.IsNull() {
		if err := state.Raw.As(&before); err != nil {
			return planned, err
		}
		var now string
		if before["etag"].As(&now) == nil && now == would {
			all["etag"] = before["etag"]
		}
	}
	return tftypes.NewValue(planned.Type(), all), nil
}

// complete is a value with what the installation says beside what is known.
func (k kind) complete(s client.Stored, known tftypes.Value, stands bool) (tftypes.Value, error) {
	server, err := flat(s)
	if err != nil {
		return known, err
	}
	return k.root.told(known.Type(), server, known, stands)
}

func (d *declared) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	wanted, _, err := d.declaration(req.Config.Raw)
	if err != nil {
		d.root.refused(&resp.Diagnostics, err)
		return
	}
	name := wanted.Metadata.Name
	there, err := d.at.client.Resource(ctx, d.name, name, false)
	switch {
	case err == nil && there.Metadata.ETag != "":
		resp.Diagnostics.AddAttributeError(path.Root("name"), "It is there already", "There is a "+words(d.name)+" "+name+" that Terraform does not know of. To go on with it: terraform import "+d.typeName()+".NAME "+name)
		return
	case err != nil && !problem.Is(err, problem.NotFound):
		d.root.refused(&resp.Diagnostics, err)
		return
	}
	d.put(ctx, wanted, "", req.Plan.Raw, &resp.State, &resp.Diagnostics)
}

func (d *declared) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	wanted, _, err := d.declaration(req.Config.Raw)
	if err != nil {
		d.root.refused(&resp.Diagnostics, err)
		return
	}
	d.put(ctx, wanted, etagOf(req.State), req.Plan.Raw, &resp.State, &resp.Diagnostics)
}

func (d *declared) put(ctx context.Context, wanted kinds.Resource, etag string, plan tftypes.Value, state *tfsdk.State, diagnostics *diag.Diagnostics) {
	stored, err := d.at.client.Put(ctx, wanted, etag, false)
	if err != nil {
		d.root.refused(diagnostics, err)
		return
	}
	if state.Raw, err = d.complete(stored, plan, true); err != nil {
		diagnostics.AddError("What the installation says is not understood", err.Error())
	}
}

func (d *declared) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var name string
	if resp.Diagnostics.Append(req.State.GetAttribute(ctx, path.Root("name"), &name)...); resp.Diagnostics.HasError() || !d.ready() {
		return
	}
	stored, err := d.at.client.Resource(ctx, d.name, name, false)
	if problem.Is(err, problem.NotFound) || err == nil && stored.Metadata.ETag == "" { // without an ETag it is shipped, and nobody's declaration
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		d.root.refused(&resp.Diagnostics, err)
		return
	}
	if resp.State.Raw, err = d.complete(stored, req.State.Raw, false); err != nil {
		resp.Diagnostics.AddError("What the installation says is not understood", err.Error())
	}
}

func (d *declared) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var name string
	if resp.Diagnostics.Append(req.State.GetAttribute(ctx, path.Root("name"), &name)...); resp.Diagnostics.HasError() {
		return
	}
	err := d.at.client.Delete(ctx, d.name, name)
	if d.name == kinds.KindStamp && problem.Is(err, problem.Conflict) {
		err = d.closeFirst(ctx, name, err)
	}
	if err != nil && !problem.Is(err, problem.NotFound) {
		d.root.refused(&resp.Diagnostics, err)
	}
}

// closeFirst deletes a stamp that no device is on, which must take none
// meanwhile. One that holds devices stays as it is.
func (d *declared) closeFirst(ctx context.Context, name string, refusal error) error {
	stored, err := d.at.client.Resource(ctx, d.name, name, false)
	if err != nil {
		return err
	}
	var spec map[string]any
	var status struct{ Assigned int }
	if err := decode(stored.Spec, &spec); err != nil {
		return err
	}
	if err := json.Unmarshal(stored.Status, &status); err != nil {
		return err
	}
	if status.Assigned > 0 {
		return problem.New(problem.Conflict, "stamp %s holds %d devices; `slipway stamp drain %s` moves them to others of its environment", name, status.Assigned, name)
	}
	if spec["state"] == "closed" {
		return refusal
	}
	spec["state"] = "closed"
	if stored.Spec, err = json.Marshal(spec); err != nil {
		return err
	}
	if _, err := d.at.client.Put(ctx, stored.Resource, stored.Metadata.ETag, false); err != nil {
		return err
	}
	return d.at.client.Delete(ctx, d.name, name)
}

func etagOf(state tfsdk.State) string {
	var all map[string]tftypes.Value
	var etag string
	if state.Raw.As(&all) != nil || all["etag"].As(&etag) != nil {
		return ""
	}
	return etag
}

// words is a kind in a sentence.
func words(kind string) string { return strings.ReplaceAll(snake(kind), "_", " ") }

// about says what each kind is, as docs/words.md does.
var about = map[string]string{
	kinds.KindTenant:          "A customer of the solution, to whom devices belong; may have its own stamps, regions and quotas.",
	kinds.KindBlueprint:       "What environments that name it have in common; each says only where it differs.",
	kinds.KindEnvironment:     "Where a solution runs at one stage: test, production…; ordered by `promotes_from`. Its policies are here: how releases enter, how people come to act in it, who signs.",
	kinds.KindStamp:           "A scale unit of one environment, with a region, a capacity and a weight. Destroying one that holds no device closes it first; one that holds devices stays.",
	kinds.KindEnrollmentGroup: "Who may become a device: all whose key is derived from the group's, or whose certificate an authority signed. Keys that are not given are made by the installation and stay there.",
	kinds.KindEnrollment:      "Who may become a device: one, by its own key, certificate or TPM. Keys that are not given are made by the installation and stay there.",
	kinds.KindRoute:           "Where messages of an environment's stamps go: source, condition, enrichment, endpoint.",
	kinds.KindFlag:            "A feature flag: one definition, as flagd has it. What an environment says beside it is a `slipway_flag_state`.",
	kinds.KindSLO:             "How well something must go.",
	kinds.KindAlertRule:       "An expression that finds what is not as it should be.",
	kinds.KindReceiver:        "Who is told of alerts, and how.",
	kinds.KindOnCall:          "Who answers for alerts, in turns.",
}

// Package slipway is the Terraform provider. What can be declared with
// `slipway apply` can be declared here: each kind of the API is a resource and
// a data source whose attributes are read off the API's own types, so neither
// lags behind the other. The installation itself completes every plan: it is
// asked what it would store, which brings its defaults and its refusals into
// the plan, before anything is done.
package slipway

import (
	"context"
	"os"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/slipway/slipway/internal/client"
	kinds "github.com/slipway/slipway/internal/resource"
)

// Address is what configurations name as the provider's source.
const Address = "registry.terraform.io/slipway/slipway"

type slipway struct{ version string }

// New makes the provider of a version.
func New(version string) func() provider.Provider {
	return func() provider.Provider { return &slipway{version} }
}

func (s *slipway) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName, resp.Version = "slipway", s.version
}

func (s *slipway) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Declares what an installation of Slipway is: its environments and stamps, who may become a device, where telemetry goes, which flags there are, and who may do what.",
		Attributes: map[string]schema.Attribute{
			"url":     schema.StringAttribute{Optional: true, MarkdownDescription: "API of the installation, such as https://slipway.example.com:8443. Default: SLIPWAY_URL"},
			"token":   schema.StringAttribute{Optional: true, Sensitive: true, MarkdownDescription: "API token. Default: SLIPWAY_TOKEN"},
			"ca_file": schema.StringAttribute{Optional: true, MarkdownDescription: "PEM file of the authority to trust besides the system's. Default: SLIPWAY_CA"},
		},
	}
}

// connection is how the provider reaches the installation. known is false
// while that depends on what other providers have yet to say.
type connection struct {
	client *client.Client
	known  bool
}

func (s *slipway) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var said struct {
		URL   types.String `tfsdk:"url"`
		Token types.String `tfsdk:"token"`
		CA    types.String `tfsdk:"ca_file"`
	}
	if resp.Diagnostics.Append(req.Config.Get(ctx, &said)...); resp.Diagnostics.HasError() {
		return
	}
	at := &connection{known: !said.URL.IsUnknown() && !said.Token.IsUnknown() && !said.CA.IsUnknown()}
	resp.ResourceData, resp.DataSourceData, resp.EphemeralResourceData = at, at, at
	if !at.known {
		return
	}
	or := func(value types.String, variable string) string {
		if value.IsNull() {
			return os.Getenv(variable)
		}
		return value.ValueString()
	}
	options := client.Options{URL: or(said.URL, "SLIPWAY_URL"), Token: or(said.Token, "SLIPWAY_TOKEN"), CAFile: or(said.CA, "SLIPWAY_CA")}
	if options.URL == "" {
		resp.Diagnostics.AddAttributeError(path.Root("url"), "Which installation?", "Name the installation's API by url in the provider's configuration, or by SLIPWAY_URL.")
	}
	if options.Token == "" {
		resp.Diagnostics.AddAttributeError(path.Root("token"), "No API token", "Give a token by token in the provider's configuration, or by SLIPWAY_TOKEN; `slipway token create NAME` makes one.")
	}
	if resp.Diagnostics.HasError() {
		return
	}
	var err error
	if at.client, err = client.New(options); err != nil {
		resp.Diagnostics.AddError("The installation cannot be spoken to", err.Error())
	}
}

func (s *slipway) Resources(context.Context) (all []func() resource.Resource) {
	for _, kind := range kinds.Kinds {
		all = append(all, func() resource.Resource { return newDeclared(kind) })
	}
	return append(all, newFlagState, newAccount, newRoleBinding)
}

func (s *slipway) DataSources(context.Context) (all []func() datasource.DataSource) {
	for _, kind := range kinds.Kinds {
		all = append(all, func() datasource.DataSource { return newFound(kind) })
	}
	return append(all, newScope)
}

func (s *slipway) EphemeralResources(context.Context) []func() ephemeral.EphemeralResource {
	return []func() ephemeral.EphemeralResource{newKeys}
}

// connected is embedded by whatever speaks to the installation.
type connected struct{ at *connection }

func (c *connected) take(data any) {
	if at, ok := data.(*connection); ok {
		c.at = at
	}
}

func (c *connected) Configure(_ context.Context, req resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	c.take(req.ProviderData)
}

// ready tells whether the installation can be asked now.
func (c *connected) ready() bool { return c.at != nil && c.at.known && c.at.client != nil }

// Command terraform-provider-slipway lets Terraform and OpenTofu declare what
// an installation of Slipway is: they start it, and speak to it over a pipe.
package main

import (
	"context"
	"flag"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/slipway/slipway/deploy/terraform/provider/slipway"
)

// version is set by the build.
var version = "development"

func main() {
	debug := flag.Bool("debug", false, "wait for a debugger, and for Terraform to be told where")
	flag.Parse()
	if err := providerserver.Serve(context.Background(), slipway.New(version), providerserver.ServeOpts{Address: slipway.Address, Debug: *debug}); err != nil {
		log.Fatal(err)
	}
}

package test

import (
	"encoding/base64"
	"encoding/pem"
	"testing"

	"github.com/slipway/slipway/internal/up"
)

func TestTheProvisioningServiceSDKWorksUnmodified(t *testing.T) {
	t.Parallel()
	in := start(t)
	policies, err := in.api.ServicePolicies(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	service := ""
	for _, p := range policies {
		if p.Name == "provisioningserviceowner" {
			service = p.PrimaryConnectionString
		}
	}
	ca, key := newAuthority(t, "factory")
	waiting, err := in.api.AddAuthority(t.Context(), "factory", pemOf("CERTIFICATE", ca.Raw))
	if err == nil {
		_, err = in.api.VerifyAuthority(t.Context(), "factory", newLeaf(t, waiting.Code, ca, key).cert)
	}
	if err != nil {
		t.Fatal(err)
	}
	leaf := newLeaf(t, "x509-PEM", nil, nil)
	block, _ := pem.Decode([]byte(leaf.cert))
	dps := in.ready.Provisioning
	in.driveWith(t, "provisioningservice.js", up.ReadyStamp{HTTPS: dps.HTTPS, MQTTS: dps.MQTTS}, map[string]any{
		"service": service, "hub": in.stamp("test-1").Host, "key": base64.StdEncoding.EncodeToString(groupKey), "ca": pemOf("CERTIFICATE", ca.Raw), "authority": "factory",
		"certificates": map[string]string{
			"PEM": leaf.cert, "base64DER": base64.StdEncoding.EncodeToString(block.Bytes), "base64PEM": base64.StdEncoding.EncodeToString([]byte(leaf.cert)),
		},
	}, func(string) (reply string) {
		if hub, err := in.register("member-1"); err != nil || hub == "" {
			t.Errorf("registered at %q, %v", hub, err)
		}
		return "registered\n"
	})
}

package resource_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

const plan = `
apiVersion: slipway/v1
kind: Blueprint
metadata: { name: solution }
spec:
  environment:
    access: controlled
    promotion:
      gates:
        - { name: agreed, approvals: { count: 2 } }
        - { name: soaked, soak: { for: 24h } }
  stamps:
    - { name: eu-1, region: eu, capacity: 20000, ring: 0 }
    - { name: us-1, region: us }
  routes:
    - name: orders
      spec: { where: $body.kind = 'order', endpoint: { webhook: { url: "https://orders.example.com/in", secret: "secret:orders-hook" } } }
`

func blueprint(t *testing.T, text string) resource.BlueprintSpec {
	t.Helper()
	all, err := resource.Decode("plan.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := resource.SpecOf[resource.BlueprintSpec](all[0])
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func declaredAs(differences ...resource.Difference) resource.EnvironmentSpec {
	return resource.EnvironmentSpec{Blueprint: "solution", Differences: differences}
}

func TestAnEnvironmentIsItsBlueprintButForItsDifferences(t *testing.T) {
	d, err := resource.Derive(blueprint(t, plan), "dev", declaredAs(
		resource.Difference{Path: "scale", Value: "1%", Reason: "a desk"},
		resource.Difference{Path: "environment.access", Value: "open", Reason: "people try things"},
		resource.Difference{Path: "environment.promotion.gates[soaked]", Remove: true, Reason: "it is the first"},
		resource.Difference{Path: "stamps[us-1]", Remove: true, Reason: "one region will do"},
		resource.Difference{Path: "stamps[lab]", Value: map[string]any{"region": "lab", "capacity": 500}, Reason: "boards on the wall"},
		resource.Difference{Path: "routes[orders].spec.endpoint.webhook.url", Value: "https://orders.dev.example.com/in", Reason: "its own back end"},
	))
	if err != nil {
		t.Fatal(err)
	}
	if d.Environment.Access != "open" || len(d.Environment.Promotion.Gates) != 1 || d.Environment.Promotion.Gates[0].Name != "agreed" {
		t.Errorf("the environment is %+v", d.Environment)
	}
	if len(d.Stamps) != 2 || d.Stamps["dev-eu-1"].Capacity != 200 || d.Stamps["dev-eu-1"].RingOf() != 0 || d.Stamps["dev-lab"].Capacity != 5 || d.Stamps["dev-lab"].Environment != "dev" {
		t.Errorf("stamps are %+v", d.Stamps)
	}
	hook := d.Routes["dev-orders"].Endpoint.Webhook
	if hook.URL != "https://orders.dev.example.com/in" || hook.Secret != "secret:orders-hook" || d.Routes["dev-orders"].MaxAge == 0 {
		t.Errorf("routes are %+v", d.Routes)
	}
	if len(d.Differs) != 6 || string(d.Differs[1].Blueprint) != `"controlled"` || string(d.Differs[1].Here) != `"open"` {
		t.Errorf("differs: %s", d.Differs)
	}
	leaves := resource.Leaves(blueprint(t, plan), d.Differs)
	if _, told := leaves["environment.access"]; told || string(leaves["stamps[eu-1].region"]) != `"eu"` || leaves["stamps[us-1].region"] != nil || leaves["stamps[eu-1].capacity"] != nil {
		t.Errorf("inherited: %s", leaves)
	}
}

// What an environment may not say, and how it is told.
func TestDifferencesAreStated(t *testing.T) {
	b := blueprint(t, plan)
	for name, c := range map[string]struct {
		spec  resource.EnvironmentSpec
		field string
		says  string
	}{
		"no reason":           {declaredAs(resource.Difference{Path: "environment.access", Value: "open"}), "spec.differences[0].reason", "says why"},
		"only blanks":         {declaredAs(resource.Difference{Path: "environment.access", Value: "open", Reason: "  "}), "spec.differences[0].reason", "says why"},
		"value and removal":   {declaredAs(resource.Difference{Path: "stamps[us-1]", Value: 1, Remove: true, Reason: "r"}), "spec.differences[0].value", "one of the two"},
		"neither":             {declaredAs(resource.Difference{Path: "stamps[us-1]", Reason: "r"}), "spec.differences[0].value", "one of the two"},
		"twice":               {declaredAs(resource.Difference{Path: "scale", Value: "1%", Reason: "r"}, resource.Difference{Path: "scale", Value: "2%", Reason: "r"}), "spec.differences[1].path", "twice"},
		"nothing there":       {declaredAs(resource.Difference{Path: "stamps[mars-1].capacity", Value: 1, Reason: "r"}), "spec.differences[0].path", "no mars-1"},
		"nothing to remove":   {declaredAs(resource.Difference{Path: "environment.growth", Remove: true, Reason: "r"}), "spec.differences[0].path", "nothing"},
		"no such member":      {declaredAs(resource.Difference{Path: "environment.colour", Value: "red", Reason: "r"}), "spec.differences", "colour"},
		"no sense":            {declaredAs(resource.Difference{Path: "stamps[us-1].capacity", Value: -1, Reason: "r"}), "spec.differences", "capacity"},
		"no path":             {declaredAs(resource.Difference{Path: "stamps[", Value: 1, Reason: "r"}), "spec.differences[0].path", "no path"},
		"no scale":            {declaredAs(resource.Difference{Path: "scale", Value: "0%", Reason: "r"}), "spec.differences[0].value", "scale"},
		"a secret in a file":  {declaredAs(resource.Difference{Path: "routes[orders].spec.endpoint.webhook.secret", Value: "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", Reason: "r"}), "spec.differences", "secret"},
		"no difference":       {declaredAs(resource.Difference{Path: "environment.access", Value: "controlled", Reason: "r"}), "spec.differences", "no difference"},
		"stated outside them": {resource.EnvironmentSpec{Blueprint: "solution", Access: "open"}, "spec.access", "under differences"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := resource.Derive(b, "dev", c.spec)
			if err == nil {
				err = d.OnlyOwn(c.spec)
			}
			if p := problem.Of(err); err == nil || p.Kind != problem.Invalid || p.Field != c.field || !strings.Contains(p.Message, c.says) {
				t.Errorf("%v at %q", err, problem.Of(err).Field)
			}
		})
	}
	if err := declaredAs().Check("dev"); err != nil {
		t.Errorf("without a difference: %v", err)
	}
	if err := (resource.EnvironmentSpec{Differences: declaredAs(resource.Difference{Path: "scale", Value: "1%", Reason: "r"}).Differences}).Check("dev"); err == nil {
		t.Error("an environment differs from nothing")
	}
}

// What is exported of an environment applies back, and so does all that the
// server shows of it.
func TestWhatComesOutGoesBackIn(t *testing.T) {
	b := blueprint(t, plan)
	declared := declaredAs(resource.Difference{Path: "scale", Value: "1%", Reason: "a desk"})
	d, err := resource.Derive(b, "dev", declared)
	if err != nil {
		t.Fatal(err)
	}
	for what, spec := range map[string]resource.EnvironmentSpec{"its own": d.Environment.Own(), "all of it": d.Environment} {
		again, err := resource.Derive(b, "dev", spec)
		if err == nil {
			err = again.OnlyOwn(spec)
		}
		one, _ := json.Marshal(d)
		other, _ := json.Marshal(again)
		if err != nil || string(one) != string(other) {
			t.Errorf("%s: %v\n%s\n%s", what, err, one, other)
		}
	}
}

func TestBlueprintsHoldNoSecret(t *testing.T) {
	_, err := resource.Decode("plan.yaml", []byte(strings.Replace(plan, "secret:orders-hook", "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", 1)))
	if err == nil || !strings.Contains(err.Error(), "holds no secret") || strings.Contains(err.Error(), "c2VjcmV0") {
		t.Errorf("it says %v", err)
	}
}

// An environment that was made by hand is written down as a blueprint and
// stays what it is; one like it is smaller, and has no gate about the
// environment before where none is.
func TestAnEnvironmentLikeAnother(t *testing.T) {
	ring := 0
	env := resource.Environment{Metadata: resource.Metadata{Name: "production"}, Spec: resource.EnvironmentSpec{
		PromotesFrom: "staging", Promotion: &resource.PromotionSpec{Gates: []resource.Gate{{Name: "soaked", Soak: &resource.SoakGate{For: "1h"}}}},
	}}
	stamps := []resource.Stamp{
		{Metadata: resource.Metadata{Name: "production-eu-1"}, Spec: resource.StampSpec{Environment: "production", Region: "eu", Capacity: 5000, Weight: 1, State: "open", Ring: &ring}},
		{Metadata: resource.Metadata{Name: "old"}, Spec: resource.StampSpec{Environment: "production", Region: "eu"}},
		{Metadata: resource.Metadata{Name: "test-1"}, Spec: resource.StampSpec{Environment: "test", Region: "eu"}},
	}
	b, own, left := resource.BlueprintOf(env, "production", stamps, nil)
	if len(left) != 1 || !strings.Contains(left[0], "stamp old") {
		t.Errorf("left: %v", left)
	}
	same, err := resource.Derive(b, "production", own)
	if err != nil || same.Environment.PromotesFrom != "staging" || len(same.Environment.Promotion.Gates) != 1 || same.Stamps["production-eu-1"].Capacity != 5000 {
		t.Errorf("production would be %+v: %v", same, err)
	}
	like := resource.Like(same.Environment, "1%", "")
	dev, err := resource.Derive(b, "dev", like)
	if err == nil {
		err = dev.OnlyOwn(like)
	}
	if err != nil || len(dev.Environment.Promotion.Gates) != 0 || dev.Stamps["dev-eu-1"].Capacity != 50 || dev.Environment.PromotesFrom != "" {
		t.Errorf("dev would be %+v: %v", dev, err)
	}
}

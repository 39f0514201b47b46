package test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestAnEnvironmentGrowsByItself fills a stamp: control adds another one made
// from the environment's template, and devices that had to wait get places there.
func TestAnEnvironmentGrowsByItself(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.apply(`
apiVersion: slipway/v1
kind: Environment
metadata: { name: field }
spec:
  growth:
    - most: 2
      stamp: { region: eu-1, capacity: 3 }
---
apiVersion: slipway/v1
kind: EnrollmentGroup
metadata: { name: growing }
spec:
  environment: field
  attestation: { symmetricKey: { primaryKey: ` + base64.StdEncoding.EncodeToString(groupKey) + ` } }
`)
	places := map[string]bool{}
	for i := range 6 {
		id := fmt.Sprint("growing-", i)
		eventually(t, id+" has a place", time.Minute, func() bool {
			hub, err := in.register(id)
			places[hub] = true
			return err == nil && hub != ""
		})
	}
	stamps := in.must("stamp", "list")
	if !strings.Contains(stamps, "field-1") || !strings.Contains(stamps, "field-2") || strings.Contains(stamps, "field-3") {
		t.Errorf("the stamps are\n%s", stamps)
	}
	if delete(places, ""); len(places) != 2 {
		t.Errorf("devices are on %v", places)
	}
	if log := in.must("audit", "list"); !strings.Contains(log, "growth of field") {
		t.Errorf("the audit log does not say who added stamps:\n%s", log)
	}
}

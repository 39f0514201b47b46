package stamp_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/stamp/hub"
)

// TestTenantsTakeTurnsAtAStampsLimit has ten devices of one tenant and one of
// another send all they can to a stamp that takes fifty messages a second: the
// one gets its tenant's half, not the eleventh part.
func TestTenantsTakeTurnsAtAStampsLimit(t *testing.T) {
	limits := hub.DefaultLimits
	limits.MessageRate = 50
	r := newRigOf(t, limits)
	ids := map[string][]string{"quiet": {"q0"}}
	for i := range 10 {
		ids["noisy"] = append(ids["noisy"], fmt.Sprint("n", i))
	}
	const long = 4 * time.Second
	var sending sync.WaitGroup
	got := map[string]*atomic.Int64{"noisy": {}, "quiet": {}}
	over := time.Now().Add(long)
	for tenant, all := range ids {
		for _, id := range all {
			ask(r, link.IdentityPut, link.PutIdentity{DeviceID: id, Epoch: 1, Tenant: tenant, Auth: link.Auth{Type: link.AuthSAS, PrimaryKey: key}, Enrollment: "e"})
			c := r.connect(id, true)
			sending.Go(func() {
				for n := uint16(1); time.Now().Before(over); n++ {
					err := c.Write(&mqtt.Publish{Topic: "devices/" + id + "/messages/events/", Payload: []byte("{}"), QoS: 1, PacketID: n})
					if err == nil {
						_, err = c.Next()
					}
					if err != nil {
						t.Errorf("%s: %v", id, err)
						return
					}
					got[tenant].Add(1)
				}
			})
		}
	}
	sending.Wait()
	quiet, noisy := got["quiet"].Load(), got["noisy"].Load()
	t.Logf("the quiet tenant's device got %d messages by, the noisy one's ten %d", quiet, noisy)
	if fifo := (quiet + noisy) / 11; quiet < 2*fifo || noisy == 0 {
		t.Errorf("one device of eleven got %d messages by, of %d", quiet, quiet+noisy)
	}
}

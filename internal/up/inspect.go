package up

import (
	"crypto/x509"
	"errors"

	"github.com/slipway/slipway/internal/control"
	"github.com/slipway/slipway/internal/stamp"
)

// Within is a running installation as Inspect sees it.
type Within struct {
	Ready   Ready
	Control *control.Plane
	Stamps  map[string]*stamp.Stamp
	CA      *x509.CertPool
}

// errInspected ends an installation that was run to be looked at.
var errInspected = errors.New("looked at")

func (in *installation) within(ready Ready) Within {
	w := Within{Ready: ready, Control: in.control, Stamps: map[string]*stamp.Stamp{}, CA: in.ca.Pool()}
	for _, local := range in.stamps.all() {
		w.Stamps[local.spec.Name] = local.stamp
	}
	return w
}

package ddi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/hub"
)

// gateways keep, for each tenant that wants one, the digest of a token that
// speaks for all its devices.
type gateways struct{ db *sqldb.DB }

const gatewayTokenBytes = 16

// set makes a token for a tenant, which voids the one before, or takes the
// tenant's away. Nobody is shown it again.
func (g gateways) set(ctx context.Context, req link.SetUpdateGateway) (token string, err error) {
	tenant := strings.ToLower(req.Tenant)
	if !req.On {
		return "", g.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, "DELETE FROM ddi_gateway WHERE tenant = ?", tenant)
			return err
		})
	}
	secret := make([]byte, gatewayTokenBytes)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	token = hex.EncodeToString(secret)
	digest := sha256.Sum256([]byte(token))
	return token, g.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO ddi_gateway (tenant, digest) VALUES (?, ?) ON CONFLICT (tenant) DO UPDATE SET digest = excluded.digest", tenant, digest[:])
		return err
	})
}

// check reports whether a token is the tenant's.
func (g gateways) check(ctx context.Context, tenant, token string) (bool, error) {
	kept, found, err := sqldb.Row(ctx, g.db, func(rows *sql.Rows) (b []byte, err error) { return b, rows.Scan(&b) },
		"SELECT digest FROM ddi_gateway WHERE tenant = ?", strings.ToLower(tenant))
	digest := sha256.Sum256([]byte(token))
	return found && subtle.ConstantTimeCompare(kept, digest[:]) == 1, err
}

// SetGateway answers control; see link.UpdateGatewaySet.
func (e *Edge) SetGateway(ctx context.Context, req link.SetUpdateGateway) (link.UpdateGateway, error) {
	token, err := e.gateways.set(ctx, req)
	return link.UpdateGateway{Tenant: req.Tenant, Token: token}, err
}

// Token answers control; see link.UpdateTokenRead.
func (e *Edge) Token(ctx context.Context, ref link.DeviceRef) (link.UpdateToken, error) {
	d, err := e.Hub.Devices.Get(ctx, ref.DeviceID)
	if err != nil {
		return link.UpdateToken{}, err
	}
	if d.Auth.Type != link.AuthSAS || len(d.Auth.PrimaryKey) == 0 {
		return link.UpdateToken{}, problem.New(problem.Conflict, "device %s has no key, from which its token would follow; its update client shows the device's certificate instead", d.ID)
	}
	return link.UpdateToken{DeviceID: d.ID, Tenant: d.Tenant, Token: device.UpdateToken(d.Auth.PrimaryKey, d.ID)}, nil
}

// errUnknown is the same for a device that is not here, is another tenant's, or
// shows a wrong token.
var errUnknown = problem.New(problem.Unauthenticated, "no such device is known here by these credentials; `slipway device update-token` shows what it needs")

// authenticate says which device makes a request, by its target token, its
// tenant's gateway token, or its certificate.
func (e *Edge) authenticate(r *http.Request, at place) (hub.Sender, error) {
	if strings.Contains(at.controller, "/") {
		return hub.Sender{}, errUnknown
	}
	shown := device.Credentials{DeviceID: at.controller}
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch secret = strings.TrimSpace(secret); {
	case strings.EqualFold(scheme, "TargetToken"):
		shown.UpdateToken = secret
	case strings.EqualFold(scheme, "GatewayToken"):
		good, err := e.gateways.check(r.Context(), at.tenant, secret)
		if err != nil {
			return hub.Sender{}, err
		}
		if !good {
			return hub.Sender{}, errUnknown
		}
		shown.Vouched = true
	case r.TLS != nil:
		shown.Chain = r.TLS.PeerCertificates
	}
	authenticate := e.Hub.Authenticate
	if len(at.rest) > 0 && at.rest[0] == "softwaremodules" {
		authenticate = e.Hub.Identify // files come in many small parts; see begin
	}
	sender, err := authenticate(r.Context(), shown)
	switch {
	case problem.Is(err, problem.NotFound), problem.Is(err, problem.Unauthenticated), problem.Is(err, problem.Invalid):
		return sender, errUnknown
	case err == nil && !strings.EqualFold(sender.Tenant(), at.tenant):
		return sender, errUnknown
	}
	return sender, err
}

package stamp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/stamp/configuration"
)

// held tells what the stamp has stored of what control decides, as it is
// stored, not as it is believed to be.
func (s *Stamp) held(ctx context.Context, _ link.None) (h link.Held, err error) {
	if h.Routes, err = s.deliveries.Held(ctx, secretDigest); err != nil {
		return h, err
	}
	if h.Tenants, err = s.hub.Quotas.Held(ctx); err != nil {
		return h, err
	}
	if h.Flags, err = s.features.Held(ctx); err != nil {
		return h, err
	}
	if h.Base, h.Rollout, err = s.software.Held(ctx); err != nil {
		return h, err
	}
	all, err := s.configurations.List(ctx, configuration.Max)
	for _, c := range all {
		h.Configurations = append(h.Configurations, link.HeldConfiguration{ID: c.ID, Target: c.TargetCondition, Priority: c.Priority, Content: c.Content.Device})
	}
	return h, err
}

// secretDigest stands for a secret where it is compared and not shown.
func secretDigest(secret string) string {
	sum := sha256.Sum256([]byte(link.SecretSalt + secret))
	return "sha256:" + hex.EncodeToString(sum[:])
}

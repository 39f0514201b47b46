package fleet

import (
	"context"
	"encoding/base64"
	"net"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
)

// Policy is a shared access policy of a stamp: what back ends connect with.
type Policy struct {
	Name                      string   `json:"name"`
	Rights                    []string `json:"rights"`
	PrimaryKey                string   `json:"primaryKey"`
	SecondaryKey              string   `json:"secondaryKey"`
	PrimaryConnectionString   string   `json:"primaryConnectionString"`
	SecondaryConnectionString string   `json:"secondaryConnectionString"`
}

// Policies returns the policies of a stamp with their keys, which is recorded.
func (f *Fleet) Policies(ctx context.Context, actor access.Actor, stamp string) ([]Policy, error) {
	host, err := f.hubHost(ctx, stamp)
	if err != nil {
		return nil, err
	}
	var found link.Policies
	err = f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "policy.read", Object: "stamp/" + stamp, Environment: f.environmentOf(ctx, stamp)}, func(*audit.Entry) error {
		found, err = stampAsk(ctx, f, stamp, link.PolicyList, link.None{})
		return err
	})
	all := make([]Policy, 0, len(found.Items))
	for _, p := range found.Items {
		all = append(all, shownPolicy(host, p))
	}
	return all, err
}

// RotatePolicy makes a key of a policy anew, or swaps the two.
func (f *Fleet) RotatePolicy(ctx context.Context, actor access.Actor, stamp, policy, key string) (Policy, error) {
	host, err := f.hubHost(ctx, stamp)
	if err != nil {
		return Policy{}, err
	}
	var p link.Policy
	err = f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "policy.rotate", Object: "stamp/" + stamp, Environment: f.environmentOf(ctx, stamp), Detail: policy + " " + key}, func(*audit.Entry) error {
		p, err = stampAsk(ctx, f, stamp, link.PolicyRotate, link.RotatePolicy{Name: policy, Key: key})
		return err
	})
	return shownPolicy(host, p), err
}

// ServicePolicies returns the policies of the provisioning service with their
// keys, which is recorded. host is by what name back ends reach it.
func (f *Fleet) ServicePolicies(ctx context.Context, actor access.Actor, host string) ([]Policy, error) {
	var found link.Policies
	err := f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "policy.read", Object: "provisioning"}, func(*audit.Entry) (err error) {
		found, err = provisioningAsk(ctx, f, link.ServicePolicies, link.None{})
		return err
	})
	all := make([]Policy, 0, len(found.Items))
	for _, p := range found.Items {
		all = append(all, shownPolicy(host, p))
	}
	return all, err
}

// RotateServicePolicy makes a key of one of them anew, or swaps the two.
func (f *Fleet) RotateServicePolicy(ctx context.Context, actor access.Actor, host, policy, key string) (Policy, error) {
	var p link.Policy
	err := f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "policy.rotate", Object: "provisioning", Detail: policy + " " + key}, func(*audit.Entry) (err error) {
		p, err = provisioningAsk(ctx, f, link.ServiceRotate, link.RotatePolicy{Name: policy, Key: key})
		return err
	})
	return shownPolicy(host, p), err
}

// hubHost is the name of a stamp's hub without a port, as service SDKs take it.
func (f *Fleet) hubHost(ctx context.Context, stamp string) (string, error) {
	s, err := f.environments.Stamp(ctx, stamp)
	if err != nil {
		return "", err
	}
	if host, _, err := net.SplitHostPort(s.Status.Host); err == nil {
		return host, nil
	}
	return s.Status.Host, nil
}

func shownPolicy(host string, p link.Policy) Policy {
	primary, secondary := base64.StdEncoding.EncodeToString(p.PrimaryKey), base64.StdEncoding.EncodeToString(p.SecondaryKey)
	text := "HostName=" + host + ";SharedAccessKeyName=" + p.Name + ";SharedAccessKey="
	return Policy{p.Name, p.Rights, primary, secondary, text + primary, text + secondary}
}

// Package enrollment keeps who may become a device: individuals and groups,
// how they prove themselves, and where they go.
package enrollment

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/attestation"
)

// Key is a name as it is compared: letter case does not count.
func Key(name string) string { return strings.ToLower(name) }

// complete fills what the spec leaves open: policies get their defaults, and
// missing keys are those stored before or else new ones.
func complete(spec link.EnrollmentSpec, before *link.EnrollmentSpec) link.EnrollmentSpec {
	if spec.Reprovision == "" {
		spec.Reprovision = link.ReprovisionMigrate
	}
	if spec.Attestation.SymmetricKey == nil {
		return spec
	}
	keys := *spec.Attestation.SymmetricKey
	var kept link.SymmetricKey
	if before != nil && before.Attestation.SymmetricKey != nil {
		kept = *before.Attestation.SymmetricKey
	}
	keys.PrimaryKey = firstOf(keys.PrimaryKey, kept.PrimaryKey)
	keys.SecondaryKey = firstOf(keys.SecondaryKey, kept.SecondaryKey)
	spec.Attestation.SymmetricKey = &keys
	return spec
}

func firstOf(given, kept string) string {
	if given != "" {
		return given
	}
	if kept != "" {
		return kept
	}
	key := make([]byte, 64)
	rand.Read(key) // never fails: crypto/rand ends the program instead
	return base64.StdEncoding.EncodeToString(key)
}

// validate checks an enrolment whose spec is complete.
func validate(e link.Enrollment) error {
	if e.Kind != link.Individual && e.Kind != link.Group {
		return problem.New(problem.Invalid, "must be %s or %s", link.Individual, link.Group).At("kind")
	}
	if !attestation.ValidID(e.Name) {
		return problem.New(problem.Invalid, "must be 1 to 128 letters, digits and - . _ : and end with a letter, a digit or -").At("metadata.name")
	}
	if e.Spec.Environment == "" {
		return problem.New(problem.Invalid, "is missing; name the environment devices go to").At("spec.environment")
	}
	if err := validateDeviceID(e); err != nil {
		return err
	}
	if err := validatePolicies(e.Spec); err != nil {
		return err
	}
	if err := validateTwin(e.Spec.InitialTwin); err != nil {
		return err
	}
	if len(e.Spec.Information) > maxInformation {
		return problem.New(problem.TooLarge, "must be at most %d KB", maxInformation>>10).At("spec.information")
	}
	_, err := attestation.NewEntry(e)
	return err
}

// maxInformation bounds what a back end keeps with an enrolment.
const maxInformation = 8 << 10

func validateDeviceID(e link.Enrollment) error {
	id := e.Spec.DeviceID
	if id == "" {
		return nil
	}
	if e.Kind == link.Group {
		return problem.New(problem.Invalid, "cannot be set on a group: its devices are named by their registration ids").At("spec.deviceId")
	}
	const others = "-.+%_#*?!(),=@$':"
	for i := range len(id) {
		c := id[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte(others, c) >= 0) {
			return problem.New(problem.Invalid, "may hold letters, digits and %s only", others).At("spec.deviceId")
		}
	}
	if len(id) > 128 {
		return problem.New(problem.Invalid, "must be at most 128 characters").At("spec.deviceId")
	}
	return nil
}

func validatePolicies(spec link.EnrollmentSpec) error {
	switch spec.Reprovision {
	case link.ReprovisionMigrate, link.ReprovisionReset, link.ReprovisionNever:
	default:
		return problem.New(problem.Invalid, "must be migrate, reset or never").At("spec.reprovision")
	}
	if spec.Allocation == nil {
		return nil
	}
	switch spec.Allocation.Policy {
	case "", link.AllocateWeighted, link.AllocateLeastLoaded, link.AllocateHashed:
	case link.AllocateLatency:
		for region, ms := range spec.Allocation.Latency {
			if !(ms >= 0 && ms <= 60_000) {
				return problem.New(problem.Invalid, "must be 0 to 60000 milliseconds for %s, not %g", region, ms).At("spec.allocation.latency")
			}
		}
	case link.AllocateCustom:
		return validateWebhook(*spec.Allocation)
	case link.AllocateStatic:
		if len(spec.Allocation.Stamps) != 1 {
			return problem.New(problem.Invalid, "must name exactly one stamp with the policy static").At("spec.allocation.stamps")
		}
	default:
		return problem.New(problem.Invalid, "must be weighted, leastLoaded, hashed, static, latency or custom").At("spec.allocation.policy")
	}
	return nil
}

func validateWebhook(a link.Allocation) error {
	u, err := url.Parse(a.Webhook)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return problem.New(problem.Invalid, "must be https://host/… with the policy custom, without a password").At("spec.allocation.webhook")
	}
	switch a.Fallback {
	case "", link.AllocateWeighted, link.AllocateLeastLoaded, link.AllocateHashed:
		return nil
	}
	return problem.New(problem.Invalid, "must be weighted, leastLoaded or hashed").At("spec.allocation.fallback")
}

// maxTwin bounds a section of the initial twin: no hub takes more.
var maxTwin = map[string]int{"tags": 8 << 10, "desired": 32 << 10}

func validateTwin(twin *link.InitialTwin) error {
	if twin == nil {
		return nil
	}
	for section, text := range map[string]json.RawMessage{"tags": twin.Tags, "desired": twin.Desired} {
		if len(text) == 0 {
			continue
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(text, &object); err != nil || object == nil {
			return problem.New(problem.Invalid, "must be a JSON object").At("spec.initialTwin." + section)
		}
		if len(text) > maxTwin[section] {
			return problem.New(problem.TooLarge, "must be at most %d KB", maxTwin[section]>>10).At("spec.initialTwin." + section)
		}
		for key := range object {
			if key == "" || strings.ContainsAny(key, ".$ ") {
				return problem.New(problem.Invalid, "the key %q may not be empty or hold a dot, a dollar sign or a space", key).At("spec.initialTwin." + section)
			}
		}
	}
	return nil
}

// InitialTwin is what a device's twin starts with; nil when nothing is set.
func InitialTwin(spec link.EnrollmentSpec) *link.TwinContent {
	if spec.InitialTwin == nil && !spec.Edge {
		return nil
	}
	content := &link.TwinContent{}
	if twin := spec.InitialTwin; twin != nil {
		content.Tags, content.Desired = twin.Tags, twin.Desired
	}
	if spec.Edge {
		content.Registry = &link.RegistryContent{Status: "enabled", Edge: true}
	}
	return content
}

func etag(version int64) string { return fmt.Sprint(version) }

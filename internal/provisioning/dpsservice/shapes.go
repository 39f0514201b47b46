package dpsservice

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/directory"
	"github.com/slipway/slipway/internal/provisioning/dpswire"
)

// enrolment is an individual or a group as back ends write and read it.
type enrolment struct {
	RegistrationID  string              `json:"registrationId,omitempty"`
	GroupID         string              `json:"enrollmentGroupId,omitempty"`
	DeviceID        string              `json:"deviceId,omitempty"`
	Attestation     attestation         `json:"attestation"`
	Hub             string              `json:"iotHubHostName,omitempty"`
	Hubs            []string            `json:"iotHubs,omitempty"`
	InitialTwin     *initialTwin        `json:"initialTwin,omitempty"`
	Capabilities    *capabilities       `json:"capabilities,omitempty"`
	Status          string              `json:"provisioningStatus,omitempty"`
	Reprovision     *reprovision        `json:"reprovisionPolicy,omitempty"`
	Allocation      string              `json:"allocationPolicy,omitempty"`
	Custom          *custom             `json:"customAllocationDefinition,omitempty"`
	Information     json.RawMessage     `json:"optionalDeviceInformation,omitempty"`
	Registration    *dpswire.StateOfOne `json:"registrationState,omitempty"`
	ETag            string              `json:"etag,omitempty"`
	CreatedTime     string              `json:"createdDateTimeUtc,omitempty"`
	LastUpdatedTime string              `json:"lastUpdatedDateTimeUtc,omitempty"`
}

type attestation struct {
	Type         string        `json:"type"`
	SymmetricKey *symmetricKey `json:"symmetricKey,omitempty"`
	X509         *x509Parts    `json:"x509,omitempty"`
	TPM          *tpm          `json:"tpm,omitempty"`
}

// custom is the webhook that is asked for a hub.
type custom struct {
	URL        string `json:"webhookUrl"`
	APIVersion string `json:"apiVersion,omitempty"`
}

type tpm struct {
	EndorsementKey string `json:"endorsementKey"`
	StorageRootKey string `json:"storageRootKey,omitempty"`
}

type symmetricKey struct {
	PrimaryKey   string `json:"primaryKey"`
	SecondaryKey string `json:"secondaryKey"`
}

type x509Parts struct {
	Client     *certificates `json:"clientCertificates,omitempty"`
	Signing    *certificates `json:"signingCertificates,omitempty"`
	References *references   `json:"caReferences,omitempty"`
}

// references are the names of verified authorities.
type references struct {
	Primary   string `json:"primary,omitempty"`
	Secondary string `json:"secondary,omitempty"`
}

type certificates struct {
	Primary   *certificate `json:"primary,omitempty"`
	Secondary *certificate `json:"secondary,omitempty"`
}

type certificate struct {
	Certificate string                   `json:"certificate,omitempty"`
	Info        *dpswire.CertificateInfo `json:"info,omitempty"`
}

type initialTwin struct {
	Tags       json.RawMessage `json:"tags,omitempty"`
	Properties struct {
		Desired json.RawMessage `json:"desired,omitempty"`
	} `json:"properties"`
}

type capabilities struct {
	Edge bool `json:"iotEdge"`
}

type reprovision struct {
	UpdateHub   bool `json:"updateHubAssignment"`
	MigrateData bool `json:"migrateDeviceData"`
}

// The words of the protocol for what enrolments say otherwise.
const (
	enabled, disabled = "enabled", "disabled"

	typeKey, typeX509, typeTPM = "symmetricKey", "x509", "tpm"

	allocateHashed, allocateLatency, allocateStatic, allocateCustom = "hashed", "geoLatency", "static", "custom"
)

// spec is what an enrolment asks for. before is what is stored already, whose
// parts the protocol has no words for stay.
func (s enrolment) spec(before *link.EnrollmentSpec, d *directory.Directory) (spec link.EnrollmentSpec, err error) {
	if before != nil {
		spec = *before
	}
	spec.DeviceID, spec.Disabled, spec.Information = s.DeviceID, strings.EqualFold(s.Status, disabled), s.Information
	spec.Edge = s.Capabilities != nil && s.Capabilities.Edge
	if s.Status != "" && !strings.EqualFold(s.Status, enabled) && !spec.Disabled {
		return spec, problem.New(problem.Invalid, "a status is enabled or disabled, not %q", s.Status).At("provisioningStatus")
	}
	if spec.Attestation, err = s.Attestation.read(); err != nil {
		return spec, err
	}
	spec.InitialTwin = nil
	if t := s.InitialTwin; t != nil {
		spec.InitialTwin = &link.InitialTwin{Tags: t.Tags, Desired: t.Properties.Desired}
	}
	spec.Reprovision = s.Reprovision.word()
	return spec, s.allocate(&spec, d)
}

func (r *reprovision) word() string {
	switch {
	case r == nil || r.UpdateHub && r.MigrateData:
		return link.ReprovisionMigrate
	case r.UpdateHub:
		return link.ReprovisionReset
	}
	return link.ReprovisionNever
}

// allocate reads which hubs devices may go to, and by which policy. The hubs
// named decide on the environment; without any it is the one stored, or the
// first of the promotion graph.
func (s enrolment) allocate(spec *link.EnrollmentSpec, d *directory.Directory) error {
	if spec.Allocation == nil {
		spec.Allocation = &link.Allocation{}
	}
	rule := *spec.Allocation
	hubs := s.Hubs
	if s.Hub != "" && !slices.Contains(hubs, s.Hub) {
		hubs = append([]string{s.Hub}, hubs...)
	}
	rule.Stamps = nil
	for _, host := range hubs {
		stamp, ok := stampOf(host, d)
		if !ok {
			return problem.New(problem.Invalid, "no stamp answers to %q", host).At("iotHubs")
		}
		if len(rule.Stamps) > 0 && stamp.Environment != spec.Environment {
			return problem.New(problem.Invalid, "the hubs named are of two environments, %s and %s", spec.Environment, stamp.Environment).At("iotHubs")
		}
		spec.Environment = stamp.Environment
		rule.Stamps = append(rule.Stamps, stamp.Name)
	}
	if spec.Environment == "" {
		spec.Environment = first(d)
	}
	switch s.Allocation {
	case "", allocateHashed:
		if slices.Contains([]string{link.AllocateStatic, link.AllocateLatency, link.AllocateCustom, ""}, rule.Policy) {
			rule.Policy = link.AllocateWeighted
		}
	case allocateLatency:
		rule.Policy = link.AllocateLatency
	case allocateStatic:
		rule.Policy = link.AllocateStatic
	case allocateCustom:
		if s.Custom == nil {
			return problem.New(problem.Invalid, "the policy custom needs the webhook to ask").At("customAllocationDefinition")
		}
		rule.Policy, rule.Webhook = link.AllocateCustom, s.Custom.URL
	default:
		return problem.New(problem.Invalid, "the allocation policies are hashed, geoLatency, static and custom, not %q", s.Allocation).At("allocationPolicy")
	}
	spec.Allocation = &rule
	return nil
}

func stampOf(host string, d *directory.Directory) (link.Stamp, bool) {
	for _, env := range d.Environments() {
		for _, s := range d.In(env.Name) {
			if strings.EqualFold(s.Host, host) || strings.EqualFold(bare(s.Host), bare(host)) {
				return s, true
			}
		}
	}
	return link.Stamp{}, false
}

func bare(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

// first is the environment nothing is promoted into.
func first(d *directory.Directory) string {
	for _, env := range d.Environments() {
		if env.PromotesFrom == "" {
			return env.Name
		}
	}
	return ""
}

// read turns an attestation into the stored form.
func (a attestation) read() (read link.Attestation, err error) {
	switch {
	case strings.EqualFold(a.Type, typeKey):
		read.SymmetricKey = &link.SymmetricKey{}
		if k := a.SymmetricKey; k != nil {
			read.SymmetricKey = &link.SymmetricKey{PrimaryKey: k.PrimaryKey, SecondaryKey: k.SecondaryKey}
		}
		return read, nil
	case strings.EqualFold(a.Type, typeTPM) && a.TPM != nil:
		// The storage root key is what the device shows when it registers.
		read.TPM = &link.TPM{EndorsementKey: a.TPM.EndorsementKey}
		return read, nil
	case strings.EqualFold(a.Type, typeX509) && a.X509 != nil:
		read.X509, err = a.X509.read()
		return read, err
	}
	return read, problem.New(problem.Invalid, "devices are attested by symmetricKey, x509 or tpm here, not by %q", a.Type).At("attestation.type")
}

func (p *x509Parts) read() (*link.X509, error) {
	var x link.X509
	for _, part := range []struct {
		field string
		from  *certificates
		to    [2]*string
	}{{"clientCertificates", p.Client, [2]*string{&x.Certificate, &x.SecondaryCertificate}}, {"signingCertificates", p.Signing, [2]*string{&x.CA, &x.SecondaryCA}}} {
		if part.from == nil {
			continue
		}
		for i, c := range []*certificate{part.from.Primary, part.from.Secondary} {
			if c == nil || c.Certificate == "" {
				continue
			}
			text, err := readCertificate(c.Certificate)
			if err != nil {
				return nil, err.At("attestation.x509." + part.field)
			}
			*part.to[i] = text
		}
	}
	if p.References != nil {
		x.CAReference, x.SecondaryCAReference = p.References.Primary, p.References.Secondary
	}
	return &x, nil
}

// readCertificate takes PEM, base64 of DER, or base64 of PEM, and returns PEM.
func readCertificate(text string) (string, *problem.Error) {
	der := []byte(nil)
	if block, _ := pem.Decode([]byte(text)); block != nil {
		der = block.Bytes
	} else if raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), "")); err == nil {
		der = raw
		if block, _ := pem.Decode(raw); block != nil {
			der = block.Bytes
		}
	}
	if _, err := x509.ParseCertificate(der); err != nil {
		return "", problem.New(problem.Invalid, "a certificate is PEM text, or base64 of DER or PEM")
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}

// show is an enrolment as back ends read it, without keys.
func show(e link.Enrollment, d *directory.Directory) enrolment {
	s := enrolment{
		DeviceID: e.Spec.DeviceID, Attestation: showAttestation(e.Spec.Attestation, false), Capabilities: &capabilities{e.Spec.Edge},
		Status: enabled, Allocation: allocateHashed, Information: e.Spec.Information,
		ETag: `"` + e.ETag + `"`, CreatedTime: dpswire.Stamp(e.CreatedAt), LastUpdatedTime: dpswire.Stamp(e.UpdatedAt),
		Reprovision: &reprovision{e.Spec.Reprovision != link.ReprovisionNever, e.Spec.Reprovision == link.ReprovisionMigrate},
	}
	if e.Kind == link.Group {
		s.GroupID = e.Name
	} else {
		s.RegistrationID = e.Name
	}
	if e.Spec.Disabled {
		s.Status = disabled
	}
	if t := e.Spec.InitialTwin; t != nil {
		s.InitialTwin = &initialTwin{Tags: t.Tags}
		s.InitialTwin.Properties.Desired = t.Desired
	}
	if rule := e.Spec.Allocation; rule != nil {
		switch rule.Policy {
		case link.AllocateStatic:
			s.Allocation = allocateStatic
		case link.AllocateLatency:
			s.Allocation = allocateLatency
		case link.AllocateCustom:
			s.Allocation, s.Custom = allocateCustom, &custom{rule.Webhook, webhookVersion}
		}
		for _, name := range rule.Stamps {
			if stamp, known := d.Stamp(name); known {
				s.Hubs = append(s.Hubs, bare(stamp.Host))
			}
		}
		if len(s.Hubs) == 1 {
			s.Hub = s.Hubs[0]
		}
	}
	return s
}

func showAttestation(a link.Attestation, secrets bool) attestation {
	if k := a.SymmetricKey; k != nil {
		shown := attestation{Type: typeKey}
		if secrets {
			shown.SymmetricKey = &symmetricKey{k.PrimaryKey, k.SecondaryKey}
		}
		return shown
	}
	if t := a.TPM; t != nil {
		return attestation{Type: typeTPM, TPM: &tpm{EndorsementKey: t.EndorsementKey}}
	}
	shown := attestation{Type: typeX509, X509: &x509Parts{}}
	if x := a.X509; x != nil {
		shown.X509.Client = showCertificates(x.Certificate, x.SecondaryCertificate)
		if x.CAReference != "" {
			shown.X509.References = &references{x.CAReference, x.SecondaryCAReference}
		} else {
			shown.X509.Signing = showCertificates(x.CA, x.SecondaryCA)
		}
	}
	return shown
}

func showCertificates(primary, secondary string) *certificates {
	if primary == "" && secondary == "" {
		return nil
	}
	return &certificates{showCertificate(primary), showCertificate(secondary)}
}

func showCertificate(text string) *certificate {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil
	}
	shown := &certificate{Certificate: base64.StdEncoding.EncodeToString(block.Bytes)}
	if parsed, err := x509.ParseCertificate(block.Bytes); err == nil {
		info := dpswire.Describe(parsed)
		shown.Info = &info
	}
	return shown
}

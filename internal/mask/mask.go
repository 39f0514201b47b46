// Package mask makes of production's data what may be seen elsewhere: each
// field is kept, dropped or replaced by the rule that a policy has for it, equal
// values become equal ones, and a field for which there is no rule does not
// come through. What was replaced can then be looked for in the copy, however
// it is written there.
package mask

import (
	"crypto/hmac"
	"crypto/sha256"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/problem"
)

// What a rule does with a value.
const (
	Keep       = "keep"
	Drop       = "drop"       // the field is not in the copy
	Hash       = "hash"       // a pseudonym: equal values have equal ones
	Fake       = "fake"       // a pseudonym that looks like one of a format, and reaches nobody
	Generalise = "generalise" // so coarse that it is nobody's
)

// What becomes of a field for which there is no rule.
const (
	Refuse = "refuse" // it is dropped, and the copy is refused
)

// The limits of a policy.
const (
	maxRules    = 500
	maxCanaries = 100
	minCanary   = 12
)

// Rule says of which class a field is and, where that differs from what is
// done with its class, what is done with it.
type Rule struct {
	Field  string  `json:"field" maxLength:"300" doc:"tags.owner, desired.*, reported.gps.**, or DATABASE:TABLE.COLUMN; * is one name, ** all below"`
	Class  string  `json:"class,omitempty" maxLength:"63" doc:"One of classes"`
	Mask   string  `json:"mask,omitempty" enum:"keep,drop,hash,fake,generalise" doc:"What is done with it; default what its class says"`
	Format string  `json:"format,omitempty" enum:"email,name,phone,ip,mac,uuid,url,date" doc:"Of a fake"`
	Step   float64 `json:"step,omitempty" minimum:"0" doc:"Numbers are generalised to multiples of it; default 10"`
	Length int     `json:"length,omitempty" minimum:"0" maximum:"64" doc:"Texts are generalised to so many characters; default 1"`
	Keys   bool    `json:"keys,omitempty" doc:"The last name of the field is personal too, and becomes a pseudonym"`
	Common bool    `json:"common,omitempty" doc:"Its values are words that other fields may have as well, and are not looked for there"`
}

// Policy is how data is masked.
type Policy struct {
	Classes  map[string]string `json:"classes,omitempty" doc:"What is done with each class of data: keep, drop, hash, fake, generalise; personal is hash, secret is drop, technical is keep unless said otherwise"`
	Fields   []Rule            `json:"fields,omitempty" maxItems:"500" doc:"The first rule that fits a field counts"`
	Unknown  string            `json:"unknown,omitempty" enum:"refuse,drop,hash" doc:"What becomes of a field without a rule; default refuse"`
	Canaries []string          `json:"canaries,omitempty" maxItems:"100" doc:"Values planted in production beforehand, which must not be found in the copy"`
}

// usual is what is done with classes that every policy knows.
var usual = map[string]string{"personal": Hash, "secret": Drop, "technical": Keep}

var (
	masks   = []string{Keep, Drop, Hash, Fake, Generalise}
	class   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	pattern = regexp.MustCompile(`^([a-z0-9][a-z0-9-]{0,62}:)?[^.\s:]+(\.[^.\s:]+)*$`)
)

// Check holds a policy against the rules.
func (p Policy) Check() error {
	for name, done := range p.Classes {
		if !class.MatchString(name) {
			return problem.New(problem.Invalid, "a class is named by 1 to 63 of a-z, 0-9 and '-', which %q is not", name).At("classes")
		}
		if !slices.Contains(masks, done) {
			return problem.New(problem.Invalid, "one of %s is done with a class, not %q", strings.Join(masks, ", "), done).At("classes." + name)
		}
	}
	switch {
	case len(p.Fields) > maxRules:
		return problem.New(problem.Invalid, "there are at most %d rules, not %d", maxRules, len(p.Fields)).At("fields")
	case !slices.Contains([]string{"", Refuse, Drop, Hash}, p.Unknown):
		return problem.New(problem.Invalid, "a field without a rule is refused (refuse), dropped (drop) or hashed (hash), not %q", p.Unknown).At("unknown")
	case len(p.Canaries) > maxCanaries:
		return problem.New(problem.Invalid, "there are at most %d canaries, not %d", maxCanaries, len(p.Canaries)).At("canaries")
	}
	for _, c := range p.Canaries {
		if len(c) < minCanary || len(c) > 200 {
			return problem.New(problem.Invalid, "a canary has %d to 200 bytes, so that it is found nowhere by chance", minCanary).At("canaries")
		}
	}
	for i, r := range p.Fields {
		if err := p.check(r); err != nil {
			known := problem.Of(err)
			return known.At("fields[" + itoa(i) + "]." + known.Field)
		}
	}
	return nil
}

func (p Policy) check(r Rule) error {
	done := p.done(r)
	switch {
	case !pattern.MatchString(r.Field) || len(r.Field) > 300:
		return problem.New(problem.Invalid, "a field reads tags.owner, reported.gps.** or orders:customers.email, not %q", r.Field).At("field")
	case strings.Contains(strings.TrimSuffix(r.Field, "**"), "**"):
		return problem.New(problem.Invalid, "** stands at the end alone").At("field")
	case r.Mask != "" && !slices.Contains(masks, r.Mask):
		return problem.New(problem.Invalid, "one of %s is done with a field, not %q", strings.Join(masks, ", "), r.Mask).At("mask")
	case done == "":
		return problem.New(problem.Invalid, "there is no class %q; say in classes what is done with it, or say mask here", r.Class).At("class")
	case done == Fake && formats[r.Format] == nil:
		return problem.New(problem.Invalid, "a fake has one of the formats %s, not %q", strings.Join(slices.Sorted(maps.Keys(formats)), ", "), r.Format).At("format")
	case !(r.Step >= 0) || r.Step > 1e12:
		return problem.New(problem.Invalid, "a step is 0 to 10^12").At("step")
	case r.Length < 0 || r.Length > 64:
		return problem.New(problem.Invalid, "a length is 0 to 64").At("length")
	}
	return nil
}

// done is what is done with the values of a rule's field.
func (p Policy) done(r Rule) string {
	switch {
	case r.Mask != "":
		return r.Mask
	case p.Classes[r.Class] != "":
		return p.Classes[r.Class]
	}
	return usual[r.Class]
}

// rule is one as it is matched.
type rule struct {
	Rule
	done  string
	names []string // of the path; "*" is any
	below bool     // and all below
	given int      // canaries
}

func (r *rule) fits(path []string) bool {
	if len(path) < len(r.names) || len(path) > len(r.names) && !r.below {
		return false
	}
	for i, name := range r.names {
		if name != "*" && name != path[i] {
			return false
		}
	}
	return !r.below || len(path) > len(r.names)
}

// Masker masks by a policy. Two of the same key and policy make the same of
// the same. It is not for several goroutines at once.
type Masker struct {
	policy Policy
	key    []byte
	rules  []*rule
	known  map[string]*rule
	seen   *Seen
}

// New returns a masker with a key that is thrown away when the copy is: without
// it no pseudonym leads back, not even by trying.
func New(p Policy, key []byte) (*Masker, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	m := &Masker{policy: p, key: key, known: map[string]*rule{}, seen: newSeen()}
	for _, r := range p.Fields {
		one := &rule{Rule: r, done: p.done(r), names: split(r.Field)}
		if last := len(one.names) - 1; one.names[last] == "**" {
			one.names, one.below = one.names[:last], true
		}
		m.rules = append(m.rules, one)
	}
	return m, nil
}

// split takes a field apart: the name of a database is a name like others.
func split(field string) []string {
	database, rest, found := strings.Cut(field, ":")
	if !found {
		return strings.Split(field, ".")
	}
	return append([]string{database + ":"}, strings.Split(rest, ".")...)
}

// Join is the field of a path as people read it.
func Join(path []string) string {
	if len(path) > 0 && strings.HasSuffix(path[0], ":") {
		return path[0] + strings.Join(path[1:], ".")
	}
	return strings.Join(path, ".")
}

// find is the first rule that fits a path; nil is none.
func (m *Masker) find(path []string) *rule {
	field := strings.Join(path, "\x00")
	if found, ok := m.known[field]; ok {
		return found
	}
	var found *rule
	for _, r := range m.rules {
		if r.fits(path) {
			found = r
			break
		}
	}
	if len(m.known) < 100_000 {
		m.known[field] = found
	}
	return found
}

// Seen is what the masker has come across.
func (m *Masker) Seen() *Seen { return m.seen }

func (m *Masker) sum(purpose, value string) []byte {
	h := hmac.New(sha256.New, m.key)
	h.Write([]byte(purpose))
	h.Write([]byte{0})
	h.Write([]byte(value)) // a hash takes everything
	return h.Sum(nil)
}

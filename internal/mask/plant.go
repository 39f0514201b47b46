package mask

import (
	"crypto/rand"
	"strings"
)

// plants is how many values of each rule canaries take the place of.
const plants = 3

// Plant puts canaries in the place of some of a document's texts, before it is
// masked: what then comes through shows that a rule was passed by.
func (m *Masker) Plant(path []string, document map[string]any) {
	for key, value := range document {
		below := append(path[:len(path):len(path)], key)
		switch value := value.(type) {
		case map[string]any:
			m.Plant(below, value)
		case string:
			document[key] = m.PlantText(below, value)
		}
	}
}

// PlantText is a text, or the canary in its place.
func (m *Masker) PlantText(path []string, text string) string {
	r := m.find(path)
	if r == nil || r.done == Keep || r.given >= plants || text == "" {
		return text
	}
	r.given++
	canary := "canary-" + strings.ToLower(rand.Text()[:20])
	m.seen.planted = append(m.seen.planted, canary)
	return canary
}

// Planted are the canaries that were put into what was read.
func (s *Seen) Planted() []string { return s.planted }

// Typed masks a text of a column that takes one format alone.
func (m *Masker) Typed(path []string, text, format string) (masked any, kept bool) {
	masked, kept = m.Value(path, text)
	r := m.find(path)
	done := m.policy.Unknown
	if r != nil {
		done = r.done
	}
	switch {
	case !kept || done == Keep:
		return masked, kept
	case done == Generalise && format == "date" && len(text) >= 7:
		return text[:7] + "-01", true // of the month alone
	}
	return formats[format](m, text), true
}

package stamp

import "github.com/slipway/slipway/internal/stamp/software"

// Software is what the edges of update protocols are built over.
func (s *Stamp) Software() *software.Engine { return s.software }

// Holdings are the kinds of what the stamp keeps.
func (s *Stamp) Holdings() (kinds []string) {
	for _, h := range s.holdings() {
		kinds = append(kinds, h.Kind())
	}
	return kinds
}

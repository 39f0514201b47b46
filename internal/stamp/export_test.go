package stamp

import "github.com/slipway/slipway/internal/stamp/software"

// Software is what the edges of update protocols are built over.
func (s *Stamp) Software() *software.Engine { return s.software }

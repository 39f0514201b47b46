package gate

import (
	"math"

	"github.com/slipway/slipway/internal/resource"
)

// Proof is how far a comparison has come to a verdict, for each rate: 0 says
// nothing, 1 is proof that updated devices do worse.
type Proof struct {
	Reconnects float64 `json:"reconnects"`
	Louder     float64 `json:"louder"`
	Quieter    float64 `json:"quieter"`
}

// Proof is how near each e-value is to the one that is proof, by its
// logarithm; three questions are asked at once, and share alpha.
func (c Comparison) Proof(policy resource.Comparison) Proof {
	needed := math.Log(3 / policy.Alpha)
	near := func(logs []float64) float64 { return min(1, max(0, evidence(logs)/needed)) }
	return Proof{near(c.Reconnects), near(c.Louder), near(c.Quieter)}
}

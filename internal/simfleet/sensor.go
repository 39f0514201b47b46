package simfleet

import (
	"math"
	"math/rand/v2"
	"time"
)

// sensor is the little world a device measures: each has its own.
type sensor struct {
	chance      *rand.Rand
	base, swing float64 // of the temperature, in °C
	noon        float64 // when it is warmest, as an angle
	humidity    float64
	vibration   float64
	battery     float64
}

func newSensor(chance *rand.Rand) *sensor {
	return &sensor{
		chance: chance, base: 18 + 6*chance.Float64(), swing: 2 + 4*chance.Float64(), noon: 2 * math.Pi * chance.Float64(),
		humidity: 35 + 30*chance.Float64(), vibration: 0.2 + chance.Float64(), battery: 60 + 40*chance.Float64(),
	}
}

// reading is one message's body.
type reading struct {
	Temperature float64 `json:"temperature"` // °C
	Humidity    float64 `json:"humidity"`    // % relative
	Vibration   float64 `json:"vibration"`   // mm/s
	Battery     float64 `json:"battery"`     // %
	At          string  `json:"at"`
}

// shock is the vibration above which a message carries an alert.
const shock = 3

func (r reading) alarming() bool { return r.Vibration > shock }

// measure follows a daily swing and slow drifts, and has now and then a shock.
func (s *sensor) measure(now time.Time) reading {
	day := float64(now.Unix()%86400) / 86400 * 2 * math.Pi
	s.humidity = min(95, max(15, s.humidity+s.chance.NormFloat64()*0.4))
	s.battery = max(5, s.battery-0.002*s.chance.Float64())
	vibration := s.vibration * (0.8 + 0.4*s.chance.Float64())
	if s.chance.IntN(60) == 0 {
		vibration += 3 + 4*s.chance.Float64()
	}
	gusts := 0.6*math.Sin(float64(now.UnixMilli())/17000+s.noon) + s.chance.NormFloat64()*0.15
	temperature := s.base + s.swing*math.Cos(day-s.noon) + gusts
	return reading{round(temperature), round(s.humidity), round(vibration), round(s.battery), now.UTC().Format(time.RFC3339Nano)}
}

func round(x float64) float64 { return math.Round(x*100) / 100 }

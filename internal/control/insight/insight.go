// Package insight tells how well releases reach an environment and its stamps:
// how often, how long after they were made, how many of them fail, and how long
// it takes until all is well again. It goes by what promotions and rollouts have
// recorded, and by nothing that somebody types in. docs/how-to/delivery-insight.md
// says what exactly each figure is.
package insight

import (
	"cmp"
	"slices"
	"time"
)

// Change is a release that began to come onto an environment, or onto one stamp
// of it, and has ended there; ways back are no changes.
type Change struct {
	Environment string
	Stamp       string // empty is the environment as a whole
	Release     string
	Made        time.Time // the release; zero is not known
	Began       time.Time // to come there
	Ended       time.Time
	Arrived     bool      // it was everywhere, and verified
	Failed      time.Time // when it was found bad, there or later; zero is never
	Restored    time.Time // when all was well again; zero is not yet
}

// Spread is how lengths of time are spread.
type Spread struct {
	Count         int   `json:"count"`
	MedianSeconds int64 `json:"medianSeconds"`
	P90Seconds    int64 `json:"p90Seconds" doc:"Nine of ten took no longer"`
	MaxSeconds    int64 `json:"maxSeconds"`
}

// Bucket is a stretch of the time looked at.
type Bucket struct {
	From        time.Time `json:"from"`
	Deployments int       `json:"deployments"`
	Failed      int       `json:"failed"`
	LeadSeconds *int64    `json:"leadSeconds,omitempty" doc:"The median lead time of those that arrived"`
}

// Figures are how well releases reach a place.
type Figures struct {
	Environment string    `json:"environment"`
	Stamp       string    `json:"stamp,omitempty" doc:"Absent for the environment as a whole"`
	From        time.Time `json:"from"`
	To          time.Time `json:"to"`
	Deployments int       `json:"deployments" doc:"Releases that arrived: everywhere, and verified"`
	PerWeek     float64   `json:"perWeek" doc:"Deployments in seven days"`
	Lead        *Spread   `json:"leadTime,omitempty" doc:"From a release being made until it arrived; absent where none did"`
	Changes     int       `json:"changes" doc:"Releases that began to come there and ended, well or not"`
	Failed      int       `json:"failed" doc:"Those of the changes that were found bad, on their way or later"`
	FailureRate *float64  `json:"failureRate,omitempty" doc:"Failed of changes; absent where there was none"`
	Restore     *Spread   `json:"timeToRestore,omitempty" doc:"From a release being found bad until all was well again; absent where none was"`
	Open        int       `json:"open" doc:"Those found bad, after which all is not well yet"`
	Buckets     []Bucket  `json:"buckets" doc:"The same in stretches, oldest first"`
}

// bucketsOf is how many stretches a time is cut into: days up to a month, weeks
// beyond.
func bucketsOf(from, to time.Time) time.Duration {
	if to.Sub(from) <= 31*24*time.Hour {
		return 24 * time.Hour
	}
	return 7 * 24 * time.Hour
}

// Measure works the figures of a place out of the changes there that ended from
// one time until before another.
func Measure(environment, stamp string, all []Change, from, to time.Time) Figures {
	f := Figures{Environment: environment, Stamp: stamp, From: from.UTC(), To: to.UTC(), Buckets: []Bucket{}}
	var leads, restores []time.Duration
	step := bucketsOf(from, to)
	bucketLeads := [][]time.Duration{}
	for at := from; at.Before(to); at = at.Add(step) {
		f.Buckets, bucketLeads = append(f.Buckets, Bucket{From: at.UTC()}), append(bucketLeads, nil)
	}
	for _, c := range all {
		if c.Environment != environment || c.Stamp != stamp || c.Ended.Before(from) || !c.Ended.Before(to) {
			continue
		}
		in := int(c.Ended.Sub(from) / step)
		f.Changes++
		if c.Arrived {
			f.Deployments++
			f.Buckets[in].Deployments++
			if !c.Made.IsZero() {
				lead := max(c.Ended.Sub(c.Made), 0)
				leads, bucketLeads[in] = append(leads, lead), append(bucketLeads[in], lead)
			}
		}
		if c.Failed.IsZero() {
			continue
		}
		f.Failed++
		f.Buckets[in].Failed++
		if c.Restored.IsZero() {
			f.Open++
		} else {
			restores = append(restores, max(c.Restored.Sub(c.Failed), 0))
		}
	}
	for i, some := range bucketLeads {
		if s := spread(some); s != nil {
			f.Buckets[i].LeadSeconds = &s.MedianSeconds
		}
	}
	f.Lead, f.Restore = spread(leads), spread(restores)
	if weeks := to.Sub(from).Hours() / (7 * 24); weeks > 0 {
		f.PerWeek = float64(f.Deployments) / weeks
	}
	if f.Changes > 0 {
		rate := float64(f.Failed) / float64(f.Changes)
		f.FailureRate = &rate
	}
	return f
}

// spread is how lengths of time are spread; nil where there are none. A rank that
// lies between two is the greater one, so that each figure was measured.
func spread(all []time.Duration) *Spread {
	if len(all) == 0 {
		return nil
	}
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	at := func(share float64) int64 {
		i := int(share*float64(len(sorted)) + 0.999999)
		return int64(sorted[min(max(i, 1), len(sorted))-1] / time.Second)
	}
	return &Spread{Count: len(sorted), MedianSeconds: at(0.5), P90Seconds: at(0.9), MaxSeconds: at(1)}
}

// Places are the environments and stamps of changes, each once: an environment as
// a whole before its stamps.
func Places(all []Change) (places [][2]string) {
	for _, c := range all {
		places = append(places, [2]string{c.Environment, c.Stamp})
	}
	slices.SortFunc(places, func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	return slices.Compact(places)
}

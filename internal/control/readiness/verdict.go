package readiness

import (
	"fmt"
	"slices"
	"time"
)

// Topic is what checks have in common.
type Topic string

// The topics.
const (
	Environments Topic = "environments"
	Flags        Topic = "flags"
	Scale        Topic = "scale"
	Provisioning Topic = "provisioning"
	Devices      Topic = "devices"
	Retry        Topic = "retry"
	Observation  Topic = "observation"
	Access       Topic = "access"
	Security     Topic = "security"
	Availability Topic = "availability"
	Backup       Topic = "backup"
	Rollback     Topic = "rollback"
	Data         Topic = "data"
	Operations   Topic = "operations"
)

// Topics are all of them, in the order in which people read them, with what
// each is about.
var Topics = []struct {
	Topic Topic
	Title string
}{
	{Environments, "Environments and promotion"}, {Flags, "Feature flags"}, {Scale, "Stamps and scale"}, {Provisioning, "Identity and provisioning"},
	{Devices, "Devices and updates"}, {Retry, "Retry and reconnects"}, {Observation, "Seeing what happens"}, {Access, "Access"}, {Security, "Security"},
	{Availability, "Availability and load"}, {Backup, "Backup and recovery"}, {Rollback, "Ways back"}, {Data, "Data and compliance"}, {Operations, "People and plans"},
}

// KnownTopic reports whether there is such a topic.
func KnownTopic(t Topic) bool {
	return slices.ContainsFunc(Topics, func(one struct {
		Topic Topic
		Title string
	}) bool {
		return one.Topic == t
	})
}

// Verdict is how an environment stands.
type Verdict struct {
	Environment string      `json:"environment"`
	DisplayName string      `json:"displayName,omitempty"`
	Final       bool        `json:"final" doc:"No environment promotes from it: it is where production is"`
	Ready       bool        `json:"ready" doc:"Every check that blocks passes"`
	Score       int         `json:"score" doc:"0 to 100: what passes of what applies; a check that blocks counts three times one that warns, and amber half"`
	Summary     string      `json:"summary"`
	At          time.Time   `json:"at" doc:"When the facts were gathered"`
	Scorecards  []Scorecard `json:"scorecards" doc:"By topic"`
	Results     []Result    `json:"results"`
}

// Scorecard is how a topic stands.
type Scorecard struct {
	Topic   Topic         `json:"topic"`
	Title   string        `json:"title"`
	Owner   string        `json:"owner,omitempty"`
	State   State         `json:"state" doc:"The worst of its checks that block; amber where only some that warn do not pass"`
	Score   int           `json:"score"`
	Counts  map[State]int `json:"counts"`
	Blocked int           `json:"blocked" doc:"Checks that keep the environment from production"`
}

// Judge makes one verdict of the results.
func Judge(f Facts, results []Result, owners map[Topic]string) Verdict {
	v := Verdict{Environment: f.Environment, At: f.At.UTC(), Results: results, Ready: true, Scorecards: []Scorecard{}}
	if f.Graph != nil {
		v.Final, v.DisplayName = f.Graph.Final, f.Graph.DisplayName
	}
	blocked, left := 0, 0
	for _, t := range Topics {
		var own []Result
		for _, r := range results {
			if r.Topic == t.Topic {
				own = append(own, r)
			}
		}
		card := scorecard(own)
		card.Topic, card.Title, card.Owner = t.Topic, t.Title, owners[t.Topic]
		v.Scorecards = append(v.Scorecards, card)
		blocked += card.Blocked
		for _, r := range own {
			if r.Level == Warns && !r.State.Passes() {
				left++
			}
		}
	}
	v.Score, v.Ready = Score(results), blocked == 0 && len(results) > 0
	switch {
	case blocked > 0:
		v.Summary = fmt.Sprintf("not ready: %s keep it from production, and %d more are to be looked at", counted(blocked, "check", "checks"), left)
	case left > 0:
		v.Summary = fmt.Sprintf("ready, with %s left to look at", counted(left, "check", "checks"))
	default:
		v.Summary = "ready"
	}
	return v
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func scorecard(results []Result) Scorecard {
	card := Scorecard{Counts: map[State]int{}, State: NotApplicable, Score: Score(results)}
	for _, r := range results {
		card.Counts[r.State]++
		worst := r.State
		if r.Level == Warns && !worst.Passes() {
			worst = Amber
		}
		if r.Level == Blocks && !r.State.Passes() {
			card.Blocked++
		}
		if severity(worst) > severity(card.State) {
			card.State = worst
		}
	}
	return card
}

// severity orders states for a scorecard: what does not apply says nothing.
func severity(s State) int {
	return slices.Index([]State{NotApplicable, Green, Manual, Amber, Unknown, Stale, Red}, s)
}

// Score is what passes of what applies, from 0 to 100. Where nothing applies it
// is 0: nothing was shown.
func Score(results []Result) int {
	earned, all := 0, 0
	for _, r := range results {
		if r.State == NotApplicable {
			continue
		}
		weight := 2
		if r.Level == Blocks {
			weight = 6
		}
		all += weight
		switch r.State {
		case Green, Manual:
			earned += weight
		case Amber:
			earned += weight / 2
		}
	}
	if all == 0 {
		return 0
	}
	return earned * 100 / all
}

// Within are the results of some topics; none means all.
func (v Verdict) Within(topics []Topic) []Result {
	if len(topics) == 0 {
		return v.Results
	}
	var some []Result
	for _, r := range v.Results {
		if slices.Contains(topics, r.Topic) {
			some = append(some, r)
		}
	}
	return some
}

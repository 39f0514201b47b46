package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/simfleet"
)

func TestTheViewOfARunShowsItsLastMinute(t *testing.T) {
	v := runView{scenario: "boot-storm", devices: 100, length: 2 * time.Minute}
	for i := range 90 {
		v.add(simfleet.Moment{Second: float64(i + 1), Connected: int64(min(i, 50)), Acked: float64(i)})
	}
	lines := v.lines(simfleet.Stats{Sent: 4000, Acked: 3999})
	text := strings.Join(lines, "\n")
	for _, want := range []string{"boot-storm, 90 s of 2m0s", "75 %", "50 of 100", "▃▃", "█", "4000 messages sent, 3999 acknowledged"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if n := strings.Count(lines[2], "▅"); n != 40 { // 50 of 100, and before that what rounds to it
		t.Errorf("%d seconds at half: %s", n, lines[2])
	}
	first, second := v.frame(simfleet.Stats{}), v.frame(simfleet.Stats{})
	if strings.HasPrefix(first, "\x1b[7A") || !strings.HasPrefix(second, "\x1b[7A") || strings.Count(second, "\n") != 7 {
		t.Errorf("%q\n%q", first, second)
	}
	if got := sparks([]float64{0, 0}, 0); got != "▁▁" {
		t.Errorf("nothing is drawn as %q", got)
	}
}

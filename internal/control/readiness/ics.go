package readiness

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"time"

	ics "github.com/arran4/golang-ical"
)

// ICalendar is dates as calendar programs read them (RFC 5545): for each a day on
// which something is to be done by.
func ICalendar(dates []Date, now time.Time) ([]byte, error) {
	calendar := ics.NewCalendar()
	calendar.SetProductId("-//Slipway//Calendar//EN")
	calendar.SetMethod(ics.MethodPublish)
	calendar.SetXWRCalName("Slipway: what will run out")
	for _, d := range dates {
		sum := sha256.Sum256([]byte(d.Kind + "\n" + d.Name + "\n" + d.Environment + d.At.UTC().Format(time.DateOnly)))
		event := calendar.AddEvent(hex.EncodeToString(sum[:12]) + "@slipway")
		event.SetDtStampTime(now.UTC())
		event.SetAllDayStartAt(d.At.UTC())
		event.SetSummary(d.What)
		event.SetDescription(described(d))
		event.AddCategory(d.Kind)
		event.SetTimeTransparency(ics.TransparencyTransparent)
	}
	var out bytes.Buffer
	err := calendar.SerializeTo(&out, ics.WithNewLineWindows)
	return out.Bytes(), err
}

// described is what else is known of a date.
func described(d Date) string {
	text := "At " + d.At.UTC().Format("2006-01-02 15:04 UTC") + "."
	if d.Owner != "" {
		text += " " + d.Owner + " answers for it."
	}
	switch {
	case d.Overdue:
		text += " It was missed."
	case d.Renews:
		text += " It renews itself."
	}
	return text
}

package resource

import (
	"encoding/json"

	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// FlagsOf reads the flags of a release; one without any has none.
func FlagsOf(s link.ReleaseSpec) (flag.Document, error) {
	d, err := flag.Parse(s.Flags)
	if err != nil {
		p := problem.Of(err)
		field := "spec.flags"
		if p.Field != "" {
			field += "." + p.Field
		}
		return d, p.At(field)
	}
	return d, nil
}

func checkFlags(text json.RawMessage) error {
	_, err := FlagsOf(link.ReleaseSpec{Flags: text})
	return err
}

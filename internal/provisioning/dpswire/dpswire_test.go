package dpswire

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

func TestFailuresThatStayAreNotTriedAgain(t *testing.T) {
	for _, c := range []struct {
		err         error
		code, retry int
		number      int
	}{
		{problem.New(problem.Invalid, "x"), 400, 0, 400004},
		{problem.New(problem.Unauthenticated, "x"), 401, 0, 401002},
		{problem.New(problem.Denied, "x"), 401, 0, 401002},
		{problem.New(problem.NotFound, "x"), 404, 0, 404201},
		{problem.New(problem.Conflict, "x"), 409, 0, 409201},
		{problem.New(problem.TooLarge, "x"), 413, 0, 413001},
		{problem.New(problem.Busy, "x").After(1500 * time.Millisecond), 429, 2, 429001},
		{problem.New(problem.NotReady, "x"), 503, 1, 503001},
		{errors.New("the password is swordfish"), 500, 1, 500001},
	} {
		code, retry, body := Failure(c.err, time.Now())
		var f failure
		if err := json.Unmarshal(body, &f); err != nil {
			t.Fatal(err)
		}
		if code != c.code || retry != c.retry || f.ErrorCode != c.number || f.TrackingID == "" || IsFinal(c.err) != (code < 429) {
			t.Errorf("%v: %d after %d s, %s", c.err, code, retry, body)
		}
		if strings.Contains(string(body), "swordfish") {
			t.Error("the inside of a fault is told to devices")
		}
	}
}

func TestJSONIsASCIIAndTheSame(t *testing.T) {
	const text = "größer, 日本, 😀 \u007f"
	var back string
	out := ascii(text)
	if err := json.Unmarshal(out, &back); err != nil || back != text {
		t.Errorf("%s reads %q, %v", out, back, err)
	}
	for _, c := range out {
		if c >= 0x80 {
			t.Fatalf("%s is not ASCII", out)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte(`{"registrationId":"dev-1","payload":{"a":[1,2]}}`))
	f.Add([]byte(" "))
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := ReadRequest(body, "dev-1"); err != nil && !IsFinal(err) {
			t.Errorf("%q: %v would be tried for ever", body, err)
		}
	})
}

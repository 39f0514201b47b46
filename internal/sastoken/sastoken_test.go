package sastoken

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
)

var (
	key = []byte("0123456789abcdef0123456789abcdef")
	now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// form is a token as one family of clients spells it.
func form(layout, resource string, lowerHex bool) string {
	const se = "1772370000" // an hour after now
	sig := base64.StdEncoding.EncodeToString(sum(key, resource+"\n"+se))
	escape := strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D")
	if lowerHex {
		escape = strings.NewReplacer("+", "%2b", "/", "%2f", "=", "%3d")
	}
	return strings.NewReplacer("{sr}", resource, "{sig}", escape.Replace(sig), "{se}", se).Replace(layout)
}

func TestEveryClientsFormVerifies(t *testing.T) {
	device := []string{"localhost:18883", "devices", "dev-1"}
	registration := []string{"0ne0000ABCD", "registrations", "dev-1"}
	for _, c := range []struct {
		name, token string
		covers      []string
		policy      string
	}{
		{"escaped resource with a port", form("SharedAccessSignature sr={sr}&sig={sig}&se={se}", "localhost%3A18883%2Fdevices%2Fdev-1", false), device, ""},
		{"policy key", form("SharedAccessSignature sr={sr}&sig={sig}&skn=iothubowner&se={se}", "localhost%3a18883%2fdevices%2fdev-1", false), device, "iothubowner"},
		{"raw slashes, lower-case hex", form("SharedAccessSignature sr={sr}&sig={sig}&se={se}&skn=", "localhost:18883/devices/dev-1", true), device, ""},
		{"host only", form("SharedAccessSignature sr={sr}&sig={sig}&se={se}", "LocalHost:18883", false), device, ""},
		{"module", form("SharedAccessSignature sr={sr}&sig={sig}&se={se}", "localhost:18883%2Fdevices%2Fdev-1%2Fmodules%2Fm", false), append(device[:3:3], "modules", "m"), ""},
		{"registration, raw", form("SharedAccessSignature sr={sr}&sig={sig}&skn=registration&se={se}", "0ne0000ABCD/registrations/dev-1", false), registration, "registration"},
		{"registration, escaped", form("SharedAccessSignature sr={sr}&sig={sig}&se={se}&skn=registration", "0ne0000abcd%2fregistrations%2fdev-1", true), registration, "registration"},
		{"other order, unknown field, prefix in lower case", form("sharedaccesssignature se={se}&x=1&sig={sig}&sr={sr}", "localhost:18883%2Fdevices", false), device, ""},
		{"version signed with the resource", form("SharedAccessSignature sr={sr}&sig={sig}&se={se}", "localhost:18883%2Fdevices%2Fdev-1%2Fapi-version%3D2016-11-14", false), device, ""},
	} {
		token, err := Parse(c.token)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err := token.Verify(key, now, 0); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if !token.Covers(c.covers...) || token.Policy != c.policy {
			t.Errorf("%s: %q does not cover %q, or policy %q", c.name, token.Resource, c.covers, token.Policy)
		}
	}
}

func TestWhatATokenDoesNotCover(t *testing.T) {
	for _, c := range []struct {
		resource string
		segments []string
	}{
		{"host/devices/dev", []string{"host", "devices", "dev-1"}},
		{"host/devices/Dev-1", []string{"host", "devices", "dev-1"}},
		{"host/devices/dev-1/modules/m", []string{"host", "devices", "dev-1"}},
		{"other", []string{"host", "devices", "dev-1"}},
		{"host:1", []string{"host", "devices", "dev-1"}},
		{"host//dev-1", []string{"host", "devices", "dev-1"}},
		{"", []string{"", "devices"}},
		{"/", []string{"", "devices"}},
	} {
		if (Token{Resource: c.resource}).Covers(c.segments...) {
			t.Errorf("%q covers %q", c.resource, c.segments)
		}
	}
}

func TestMalformedTokens(t *testing.T) {
	good := Sign(key, "host%2Fdevices%2Fd", now.Add(time.Hour), "")
	for name, text := range map[string]string{
		"empty":          "",
		"no prefix":      strings.TrimPrefix(good, "SharedAccessSignature "),
		"twice":          good + "&sr=host",
		"no signature":   "SharedAccessSignature sr=host&se=1",
		"empty resource": "SharedAccessSignature sr=&sig=AAAA&se=1",
		"not base64":     "SharedAccessSignature sr=host&sig=!!!&se=1",
		"bad escape":     "SharedAccessSignature sr=ho%zzst&sig=AAAA&se=1",
		"bad expiry":     "SharedAccessSignature sr=host&sig=AAAA&se=tomorrow",
		"negative":       "SharedAccessSignature sr=host&sig=AAAA&se=-1",
		"far too big":    "SharedAccessSignature sr=host&sig=AAAA&se=99999999999999999999",
		"too long":       good + "&x=" + strings.Repeat("x", MaxLength),
	} {
		if _, err := Parse(text); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	token, err := Parse(Sign(key, "host", now, "p"))
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Verify(key, now.Add(5*time.Minute), 5*time.Minute); err != nil {
		t.Errorf("inside the skew: %v", err)
	}
	if err := token.Verify(key, now.Add(5*time.Minute+time.Second), 5*time.Minute); !errors.Is(err, ErrExpired) {
		t.Errorf("beyond the skew: %v", err)
	}
	if err := token.Verify([]byte("another key of some length......"), now, 0); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	if err := token.Verify(nil, now, 0); !errors.Is(err, ErrSignature) {
		t.Errorf("no key: %v", err)
	}
	token.ExpiryText = "9999999999"
	if err := token.Verify(key, now, 0); !errors.Is(err, ErrSignature) {
		t.Errorf("expiry changed after signing: %v", err)
	}
	eternal, err := Parse(Sign(key, "host", time.Unix(1<<60, 0), ""))
	if err != nil || eternal.Verify(key, now, 0) != nil {
		t.Errorf("a far expiry: %v", err)
	}
}

func TestDeriveKey(t *testing.T) {
	// base64(HMAC-SHA256("group", "dev-1")), worked out with another tool.
	const want = "pp9C46nnsrnczu9ROq1CqiHSnPA8sEs2Pko0Pq3PqCY="
	if got := base64.StdEncoding.EncodeToString(DeriveKey([]byte("group"), "dev-1")); got != want {
		t.Errorf("got %s", got)
	}
	if string(DeriveKey([]byte("group"), "dev-1")) == string(DeriveKey([]byte("group"), "DEV-1")) {
		t.Error("letter case does not count")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Sign(key, "localhost:18883/devices/dev-1", now, "device"))
	f.Add("SharedAccessSignature sr=a%2fb&sig=AA%3d%3d&se=1&skn=x&&=&y")
	f.Add("sharedaccesssignature se=99999999999&sr=%25&sig=AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := Parse(text)
		if err != nil {
			return
		}
		if token.Verify(key, now, 0) == nil && !strings.Contains(text, "1772366400") {
			t.Errorf("verified: %q", text)
		}
		token.Covers("host", "devices", "d")
		if again, err := Parse(Sign(key, token.SignedResource, token.Expiry, token.Policy)); err != nil || again.Verify(key, token.Expiry, 0) != nil {
			t.Errorf("signed again %q does not verify: %v", token.SignedResource, err)
		}
	})
}

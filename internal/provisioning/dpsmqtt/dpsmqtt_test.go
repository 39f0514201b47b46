package dpsmqtt

import (
	"strings"
	"testing"
)

func TestUserNamesAsClientsSendThem(t *testing.T) {
	for name, want := range map[string][2]string{
		"0ne0000abcd/registrations/dev-1/api-version=2019-03-31&ClientVersion=x%2F1": {"0ne0000abcd", "dev-1"},
		"0ne0000abcd/registrations/dev:1/api-version=2021-06-01":                     {"0ne0000abcd", "dev:1"},
		"0ne0000abcd/Registrations/dev-1":                                            {"0ne0000abcd", "dev-1"},
	} {
		if scope, id, err := ParseUser(name); err != nil || scope != want[0] || id != want[1] {
			t.Errorf("%s: %q %q %v", name, scope, id, err)
		}
	}
	for _, name := range []string{"", "a/registrations", "/registrations/d/x", "a/registrations//x", "host/device/?api-version=1", strings.Repeat("a", 2000) + "/registrations/d"} {
		if _, _, err := ParseUser(name); err == nil {
			t.Errorf("%.30q was accepted", name)
		}
	}
}

func TestTopicsAsClientsSendThem(t *testing.T) {
	for topic, want := range map[string]request{
		"$dps/registrations/PUT/iotdps-register/?$rid=6f1a":                                {true, "6f1a", ""},
		"$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=ab.1":       {false, "2", "ab.1"},
		"$dps/registrations/GET/iotdps-get-operationstatus/?operationId=ab%2e1&$rid=a%20b": {false, "a%20b", "ab.1"},
		"$dps/registrations/PUT/iotdps-register/":                                          {true, "", ""},
	} {
		if got, err := parseTopic(topic); err != nil || got != want {
			t.Errorf("%s: %+v, %v", topic, got, err)
		}
	}
	for _, topic := range []string{"", "$dps/registrations/PUT/", "$iothub/twin/GET/?$rid=1", "$dps/registrations/PUT/iotdps-register/x?$rid=1",
		"$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId=%zz", "$dps/registrations/PUT/iotdps-register/?$rid=" + strings.Repeat("1", 2000)} {
		if got, err := parseTopic(topic); err == nil {
			t.Errorf("%.60s was read as %+v", topic, got)
		}
	}
}

func FuzzParseUser(f *testing.F) {
	f.Add("0ne0000abcd/registrations/dev-1/api-version=2019-03-31&ClientVersion=x%2F1")
	f.Fuzz(func(t *testing.T, name string) {
		if scope, id, err := ParseUser(name); err == nil && (scope == "" || id == "" || strings.Contains(scope+id, "/")) {
			t.Errorf("%q was read as %q, %q", name, scope, id)
		}
	})
}

func FuzzParseTopic(f *testing.F) {
	f.Add("$dps/registrations/PUT/iotdps-register/?$rid=6f1a")
	f.Add("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=ab.1")
	f.Fuzz(func(t *testing.T, topic string) {
		if r, err := parseTopic(topic); err == nil && !strings.Contains(topic, r.rid) {
			t.Errorf("%q: the request id %q is not echoed as sent", topic, r.rid)
		}
	})
}

package hubmqtt_test

import (
	"testing"

	"github.com/slipway/slipway/internal/stamp/hubmqtt"
)

func TestUserNamesAsClientsSendThem(t *testing.T) {
	for name, want := range map[string]hubmqtt.User{
		"h:18883/dev1/?api-version=2021-04-12&DeviceClientType=azure-iot-device%2F1.18.4%20(node)": {Host: "h:18883", DeviceID: "dev1"},
		"h/dev1/?api-version=2020-09-30&model-id=dtmi%3acom%3ax%3b1&DeviceClientType=c":            {Host: "h", DeviceID: "dev1", ModelID: "dtmi:com:x;1"},
		"h/dev1/?model-id=dtmi:com:x;1":             {Host: "h", DeviceID: "dev1", ModelID: "dtmi:com:x;1"},
		"h/dev1/api-version=2016-11-14":             {Host: "h", DeviceID: "dev1"},
		"h/dev#+foo":                                {Host: "h", DeviceID: "dev#+foo"},
		"h/d/m/?api-version=1&DeviceClientType=a/b": {Host: "h", DeviceID: "d", ModuleID: "m"},
		"h/d/m/api-version=1":                       {Host: "h", DeviceID: "d", ModuleID: "m"},
	} {
		if got, err := hubmqtt.ParseUser(name); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "h", "/d", "h/", "h/d/m/n/?api-version=1", "h/d/?model-id=%zz", string(make([]byte, 3000))} {
		if got, err := hubmqtt.ParseUser(name); err == nil {
			t.Errorf("%.20q was read as %+v", name, got)
		}
	}
}

func FuzzParseUser(f *testing.F) {
	f.Add("h/dev1/?api-version=2021-04-12")
	f.Fuzz(func(t *testing.T, name string) {
		if u, err := hubmqtt.ParseUser(name); err == nil && (u.Host == "" || u.DeviceID == "") {
			t.Errorf("%q was read as %+v", name, u)
		}
	})
}

package fleetfile_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/fleetfile"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

var (
	key   = base64.StdEncoding.EncodeToString([]byte("an old key of thirty-two bytes!!"))
	print = strings.Repeat("AB:", 19) + "AB"
)

// read reads a whole list.
func read(t *testing.T, text string, o fleetfile.Options) (all []fleetfile.Entry, left []string, err error) {
	t.Helper()
	list, err := fleetfile.New(strings.NewReader(text), o)
	if err != nil {
		return nil, nil, err
	}
	for {
		e, err := list.Next()
		if errors.Is(err, io.EOF) {
			return all, list.Left(), nil
		}
		if err != nil {
			return all, nil, err
		}
		all = append(all, e)
	}
}

func TestATableOfDevices(t *testing.T) {
	t.Parallel()
	text := "\ufeffSerial,Primary Key,thumb,Location,tags.line,desired.every,status,Colour\n" +
		"d-1," + key + ",,Berlin,7,10,,red\n" +
		"d-2,," + print + ",\"Pa\nris\",,,disabled,\n" +
		"\n" +
		"d-3,not a key,,,,,,\n" +
		"d-4," + key + "," + print + ",,,,,\n" +
		"," + key + ",,,,,,\n" +
		"d-6,short\n" +
		"d-7," + key + ",,,,,asleep,\n" +
		"d-8,,,,,,,\n"
	all, left, err := read(t, text, fleetfile.Options{Map: map[string]string{"deviceId": "Serial", "primaryThumbprint": "thumb", "tags.site": "Location"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 || left[0] != "Colour" {
		t.Errorf("columns left out: %v", left)
	}
	var got []string
	for _, e := range all {
		line := fmt.Sprintf("%d %s ", e.Line, e.Device.DeviceID)
		if e.Err != nil {
			p := problem.Of(e.Err)
			got = append(got, line+p.Field+": "+p.Message)
			continue
		}
		auth := "none"
		if a := e.Device.Auth; a != nil {
			auth = fmt.Sprint(a.Type, len(a.PrimaryKey), len(a.PrimaryThumbprint))
		}
		got = append(got, line+auth+" "+string(e.Device.Twin.Tags)+string(e.Device.Twin.Desired)+" "+e.Device.Twin.Registry.Status)
	}
	want := []string{
		`2 d-1 sas32 0 {"line":"7","site":"Berlin"}{"every":"10"} enabled`,
		`3 d-2 selfSigned0 40 {"site":"Pa\nris"} disabled`,
		`6 d-3 primaryKey: is not base64`,
		`7 d-4 primaryKey: has keys and thumbprints; a device proves itself by one of the two`,
		`8  deviceId: is missing`,
		`9  : has 2 columns, and the first line names 8`,
		`10 d-7 status: is enabled or disabled, not "asleep"`,
		`11 d-8 none  enabled`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("read\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWhatATablesHeadMustSay(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text  string
		named map[string]string
		want  string
	}{
		{"", nil, "the first line must name the columns"},
		{"serial,key\n", nil, "no column is deviceId; say which one with deviceId=COLUMN; there are serial, key"},
		{"deviceId,device_id\n", nil, "two columns are deviceId"},
		{"deviceId\n", map[string]string{"primaryKey": "Key"}, "there is no column Key; there are deviceId"},
		{"deviceId\n", map[string]string{"colour": "deviceId"}, `"colour" is nothing a column can be`},
	} {
		if _, _, err := read(t, test.text, fleetfile.Options{Format: fleetfile.CSV, Map: test.named}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q is %v, not %q", test.text, err, test.want)
		}
	}
}

func TestAnExportOfARegistry(t *testing.T) {
	t.Parallel()
	text := `{"id":"d-1","eTag":"MQ==","status":"enabled","authentication":{"type":"sas","symmetricKey":{"primaryKey":"` + key + `","secondaryKey":"` + key + `"},"x509Thumbprint":{"primaryThumbprint":null}},"tags":{"site":"x"},"properties":{"desired":{"every":10,"$metadata":{"$lastUpdated":"2024"},"$version":7},"reported":{"fw":"1.0","$version":3}},"capabilities":{"iotEdge":true}}
{"id":"d-1","moduleId":"$edgeAgent","managedBy":"iotEdge","authentication":{"type":"none"},"properties":{"desired":{"$version":1}}}

{"id":"d-2","status":"disabled","statusReason":"stolen","authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"` + print + `"}}}
{"id":"d-3","authentication":{"type":"certificateAuthority"}}
{"id":"other","moduleId":"m"}
{"id":"d-4","importMode":"deleteIfMatchETag"}
nonsense
{"id":"d-5","authentication":{"symmetricKey":{"primaryKey":"` + key + `"}}}`
	all, _, err := read(t, text, fleetfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 7 {
		t.Fatalf("%d entries: %+v", len(all), all)
	}
	first := all[0].Device
	if first.Auth == nil || first.Auth.Type != link.AuthSAS || string(first.Twin.Desired) != `{"every":10}` || string(first.Twin.Reported) != `{"fw":"1.0"}` || !first.Twin.Registry.Edge ||
		len(first.Twin.Modules) != 1 || first.Twin.Modules[0].ModuleID != "$edgeAgent" || first.Twin.Modules[0].Twin.Desired != nil {
		t.Errorf("the first device is %+v with the twin %+v", first, first.Twin)
	}
	if r := all[1].Device.Twin.Registry; r.Status != "disabled" || r.StatusReason != "stolen" || all[1].Device.Auth.Type != link.AuthSelfSigned {
		t.Errorf("the second is %+v", all[1].Device)
	}
	if all[2].Err != nil || all[2].Device.Auth != nil {
		t.Errorf("a device of an authority is %+v, %v", all[2].Device, all[2].Err)
	}
	for i, want := range map[int]string{3: "moduleId", 4: "importMode", 5: ""} {
		if all[i].Err == nil || problem.Of(all[i].Err).Field != want {
			t.Errorf("entry %d on line %d is %v, and should be refused for %q", i, all[i].Line, all[i].Err, want)
		}
	}
	if last := all[6]; last.Err != nil || last.Line != 9 || last.Device.Auth.Type != link.AuthSAS {
		t.Errorf("the last, without a type, is %+v, %v", last, last.Err)
	}
}

func TestALineTooLongEndsTheReading(t *testing.T) {
	t.Parallel()
	text := `{"id":"d-1"}` + "\n" + `{"id":"` + strings.Repeat("x", 600<<10) + `"}` + "\n"
	all, _, err := read(t, text, fleetfile.Options{})
	if len(all) != 1 || !problem.Is(err, problem.TooLarge) {
		t.Errorf("%d devices, then %v", len(all), err)
	}
}

func FuzzList(f *testing.F) {
	f.Add("deviceId,primaryKey\nd," + key + "\n")
	f.Add(`{"id":"d","moduleId":"m"}` + "\n")
	f.Add("deviceId,tags\nd,\"{\"\"a\"\":1}\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := fleetfile.New(strings.NewReader(text), fleetfile.Options{})
		if err != nil {
			return
		}
		before := int64(0)
		for range len(text) + 2 {
			e, err := list.Next()
			if err != nil {
				return
			}
			if e.Line < before {
				t.Fatalf("line %d comes after %d", e.Line, before)
			}
			before = e.Line
			if e.Err == nil && e.Device.DeviceID == "" {
				t.Fatal("a device without an id is in order")
			}
		}
		t.Fatal("the reading does not end")
	})
}

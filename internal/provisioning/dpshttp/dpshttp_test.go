package dpshttp

import "testing"

func TestPaths(t *testing.T) {
	for text, want := range map[string]path{
		"/0ne1/registrations/dev%3A1/register":         {"0ne1", "dev:1", "register", ""},
		"/0ne1/Registrations/dev-1/operations/ab%2e1/": {"0ne1", "dev-1", "operations", "ab.1"},
		"/0ne1/registrations/dev-1":                    {"0ne1", "dev-1", "", ""},
	} {
		if got, ok := parsePath(text); !ok || got != want {
			t.Errorf("%s: %+v %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "/", "/0ne1/registrations", "/0ne1/devices/d/register", "/0ne1/registrations/d/operations/x/y", "/0ne1/registrations/%zz"} {
		if got, ok := parsePath(text); ok {
			t.Errorf("%s was read as %+v", text, got)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	f.Add("/0ne1/registrations/dev-1/operations/ab.1")
	f.Fuzz(func(t *testing.T, text string) {
		if p, ok := parsePath(text); ok && p.id == "" {
			t.Errorf("%q has no id", text)
		}
	})
}

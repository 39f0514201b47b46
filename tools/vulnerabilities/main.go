// Command vulnerabilities looks whether the programs reach code that is known
// to be vulnerable, with govulncheck. It asks the Go vulnerability database;
// where that cannot be reached, it takes the module that the database is made
// of from the module proxy, or the newest one that this machine has. If it has
// none it says so and fails: not to have asked is not to be clean.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	service = "https://vuln.go.dev"
	source  = "golang.org/x/vulndb"
	// stale is when a database says too little of what came since.
	stale = 45 * 24 * time.Hour
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "vulnerabilities:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("name the directory of the module that is to be checked")
	}
	db, from, err := database()
	if err != nil {
		return fmt.Errorf("NOT ASKED, so nothing is known: %w", err)
	}
	tools, err := filepath.Abs("go.mod")
	if err != nil {
		return err
	}
	check := exec.Command("go", "tool", "-modfile="+tools, "govulncheck", "-db", db, "./...")
	check.Dir = args[0]
	out, err := check.CombinedOutput()
	if err != nil {
		return fmt.Errorf("by %s:\n%s%w", from, out, err)
	}
	if !bytes.Contains(out, []byte("No vulnerabilities found.")) && !bytes.Contains(out, []byte("affected by 0 vulnerabilities")) {
		return fmt.Errorf("govulncheck, by %s, did not say what it found:\n%s", from, out)
	}
	fmt.Printf("no known vulnerability is reached, by %s\n", from)
	return nil
}

// database is the URL of one, and what it is.
func database() (url, from string, err error) {
	answered := ask()
	if answered == nil {
		return service, service, nil
	}
	version, dir, err := download()
	if err != nil {
		return "", "", fmt.Errorf("%s does not answer (%w), and %s is neither at the module proxy nor on this machine: %w", service, answered, source, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", "", err
	}
	at := filepath.Join(cache, "slipway-vulndb", version)
	if _, err := os.Stat(filepath.Join(at, "index", "db.json")); err != nil {
		if err := index(filepath.Join(dir, "data", "osv"), at); err != nil {
			return "", "", fmt.Errorf("%s %s: %w", source, version, err)
		}
	}
	from = fmt.Sprintf("%s %s, as %s does not answer", source, version, service)
	if made, err := time.Parse("20060102150405", stamp(version)); err == nil && time.Since(made) > stale {
		from += fmt.Sprintf("; WARNING: it is of %s and says nothing of what came since", made.Format(time.DateOnly))
	}
	return "file://" + at, from, nil
}

// stamp is the time in a pseudo-version.
func stamp(version string) string {
	parts := strings.Split(version, "-")
	return parts[max(0, len(parts)-2)]
}

func ask() error {
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(service + "/index/db.json")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// download has the newest version of the source on this machine.
func download() (version, dir string, err error) {
	out, err := exec.Command("go", "mod", "download", "-json", source+"@latest").Output()
	var got struct{ Version, Dir, Error string }
	if decoded := json.Unmarshal(out, &got); err == nil && decoded == nil && got.Error == "" && got.Dir != "" {
		return got.Version, got.Dir, nil
	}
	fault := fmt.Errorf("the proxy: %s", strings.TrimSpace(got.Error))
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return "", "", errors.Join(fault, err)
	}
	have, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(cache)), source+"@*"))
	if err != nil || len(have) == 0 {
		return "", "", errors.Join(fault, err)
	}
	newest := slices.Max(have) // pseudo-versions begin alike, and then with their time
	_, version, _ = strings.Cut(filepath.Base(newest), "@")
	return version, newest, nil
}

// module is an entry of the database's index; see https://go.dev/security/vuln/database.
type module struct {
	Path  string `json:"path"`
	Vulns []vuln `json:"vulns"`
}

type vuln struct {
	ID       string    `json:"id"`
	Modified time.Time `json:"modified"`
	Fixed    string    `json:"fixed,omitempty"`
}

// report is what the index needs of a report in the format of OSV.
type report struct {
	ID       string    `json:"id"`
	Modified time.Time `json:"modified"`
	Affected []struct {
		Package struct{ Name string } `json:"package"`
		Ranges  []struct {
			Events []struct{ Fixed string } `json:"events"`
		} `json:"ranges"`
	} `json:"affected"`
}

// index writes reports in the layout of the database.
func index(reports, at string) error {
	files, err := filepath.Glob(filepath.Join(reports, "GO-*.json"))
	if err != nil || len(files) < 1000 {
		return errors.Join(err, fmt.Errorf("only %d reports in %s", len(files), reports))
	}
	draft := at + ".draft"
	if err := errors.Join(os.RemoveAll(draft), os.MkdirAll(filepath.Join(draft, "ID"), 0o755), os.MkdirAll(filepath.Join(draft, "index"), 0o755)); err != nil {
		return err
	}
	modules := map[string]*module{}
	var latest time.Time
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var r report
		if err := json.Unmarshal(text, &r); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := os.WriteFile(filepath.Join(draft, "ID", r.ID+".json"), text, 0o644); err != nil {
			return err
		}
		if r.Modified.After(latest) {
			latest = r.Modified
		}
		list(modules, r)
	}
	if len(modules) < 500 {
		return fmt.Errorf("only %d modules in %d reports", len(modules), len(files))
	}
	var all []*module
	for _, m := range modules {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *module) int { return strings.Compare(a.Path, b.Path) })
	return errors.Join(
		write(filepath.Join(draft, "index", "modules.json"), all),
		write(filepath.Join(draft, "index", "db.json"), map[string]time.Time{"modified": latest}),
		os.RemoveAll(at), os.Rename(draft, at),
	)
}

// list notes which modules a report is of.
func list(modules map[string]*module, r report) {
	for _, affected := range r.Affected {
		path := affected.Package.Name
		m := modules[path]
		if m == nil {
			m = &module{Path: path}
			modules[path] = m
		}
		v := vuln{ID: r.ID, Modified: r.Modified}
		for _, one := range affected.Ranges {
			for _, event := range one.Events {
				if event.Fixed != "" {
					v.Fixed = event.Fixed
				}
			}
		}
		if !slices.ContainsFunc(m.Vulns, func(have vuln) bool { return have.ID == v.ID }) {
			m.Vulns = append(m.Vulns, v)
		}
	}
}

func write(file string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

package internal_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// capabilities are how many rows the seeds have, by the number of the seed.
var capabilities = []int{39, 46, 55, 89, 70}

var (
	aTest    = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
	aPage    = regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	aShowing = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
)

// TestEveryCapabilityIsFound holds docs/capabilities.md to what it promises: each
// capability once and in order, with a page that is there and tests that are, or
// a reason in words for what is not.
func TestEveryCapabilityIsFound(t *testing.T) {
	text, err := os.ReadFile("../docs/capabilities.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testsOf(t, "..")
	var rows [][]string
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|"); len(cells) == 4 && regexp.MustCompile(`^ \d{3}-\d{2} $`).MatchString(cells[0]) {
			rows = append(rows, cells)
		}
	}
	for seed, n := range capabilities {
		for i := range n {
			id := fmt.Sprintf("%03d-%02d", seed, i+1)
			if len(rows) == 0 || strings.TrimSpace(rows[0][0]) != id {
				t.Fatalf("%s is not where it should be", id)
			}
			checkCapability(t, id, rows[0][2], rows[0][3], tests)
			rows = rows[1:]
		}
	}
	if len(rows) > 0 {
		t.Errorf("%s is no capability", rows[0][0])
	}
}

func checkCapability(t *testing.T, id, where, shown string, tests map[string]bool) {
	t.Helper()
	pages, named := aPage.FindAllStringSubmatch(where, -1), aShowing.FindAllStringSubmatch(shown, -1)
	if len(pages) == 0 {
		t.Errorf("%s has no page", id)
	}
	for _, page := range pages {
		if _, err := os.Stat(filepath.Join("../docs", page[1])); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, one := range named {
		if !tests[one[1]] {
			t.Errorf("%s names %s, which is not there", id, one[1])
		}
	}
	if len(named) == 0 && len(strings.Fields(shown)) < 5 {
		t.Errorf("%s has neither a test nor a reason", id)
	}
}

// testsOf are the names of the tests below a directory.
func testsOf(t *testing.T, root string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == "node_modules" {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, found := range aTest.FindAllStringSubmatch(string(text), -1) {
			names[found[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

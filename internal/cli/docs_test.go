package cli

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/resource"
)

var (
	declaredTest = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	namedTest    = regexp.MustCompile("`(Test[A-Z]\\w+)`")
)

var fenced = regexp.MustCompile("(?s)```(\\w+)\n(.*?)\n```")

// TestDocsSayWhatIsThere reads the pages for people: resources in them must be
// such as `slipway apply` takes, and commands and flags must exist.
func TestDocsSayWhatIsThere(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, page := range append(append(pages, more...), "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range fenced.FindAllStringSubmatch(string(text), -1) {
			switch found[1] {
			case "yaml":
				checkYAML(t, page, found[2])
			case "sh", "bash":
				commands += checkCommands(t, page, found[2])
			}
		}
	}
	if commands < 30 {
		t.Errorf("only %d commands were found; does the test still read them?", commands)
	}
}

// TestDocsNameTestsThatAreThere looks up the tests that pages refer to.
func TestDocsNameTestsThatAreThere(t *testing.T) {
	there := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && entry.Name() == "node_modules" {
			return cmp.Or(err, fs.SkipDir)
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, found := range declaredTest.FindAllStringSubmatch(string(text), -1) {
			there[found[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("../../docs/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range namedTest.FindAllStringSubmatch(string(text), -1) {
			if !there[found[1]] {
				t.Errorf("%s names %s, which is not there", page, found[1])
			}
		}
	}
}

// checkYAML decodes whole documents; parts of one, and those with something
// left out, are for the eye.
func checkYAML(t *testing.T, page, text string) {
	t.Helper()
	if !strings.Contains(text, "apiVersion:") || strings.Contains(text, "…") {
		return
	}
	if _, err := resource.Decode(filepath.Base(page), []byte(text)); err != nil {
		t.Errorf("%s: %v", page, err)
	}
}

// checkCommands looks up every slipway command of a script.
func checkCommands(t *testing.T, page, script string) (n int) {
	t.Helper()
	for line := range strings.SplitSeq(strings.ReplaceAll(script, "\\\n", " "), "\n") {
		_, line, found := strings.Cut(" "+line, " slipway ")
		if !found {
			_, line, found = strings.Cut(line, "$(slipway ")
		}
		if !found || strings.Contains(line, "…") {
			continue
		}
		words := strings.Fields(strings.NewReplacer(`"`, " ", "'", " ", ")", " ").Replace(line))
		for i, word := range words {
			if strings.HasPrefix(word, "#") || strings.ContainsAny(word[:1], "|>;&") {
				words = words[:i]
				break
			}
		}
		n++
		checkCommand(t, page, words)
	}
	return n
}

func checkCommand(t *testing.T, page string, words []string) {
	t.Helper()
	a := &app{env: func(string) string { return "" }}
	cmd, rest, err := a.root().Find(words)
	if err != nil || cmd.Name() == "slipway" && len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		t.Errorf("%s: there is no command slipway %s", page, strings.Join(words, " "))
		return
	}
	for _, word := range rest {
		name, _, _ := strings.Cut(word, "=")
		if long, ok := strings.CutPrefix(name, "--"); ok && long != "" && lookup(cmd, long) {
			continue
		} else if ok && long != "" {
			t.Errorf("%s: slipway %s has no flag --%s", page, cmd.CommandPath(), long)
		}
	}
}

func lookup(cmd *cobra.Command, flag string) bool {
	return flag == "help" || cmd.Flags().Lookup(flag) != nil || cmd.InheritedFlags().Lookup(flag) != nil || cmd.Root().PersistentFlags().Lookup(flag) != nil
}

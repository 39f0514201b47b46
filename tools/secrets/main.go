// Command secrets looks for secrets in the files of the repository, with the
// rules of gitleaks. It first plants one and looks for that: a scanner that
// finds nothing because it is broken must not pass.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/viper"
	"github.com/zricethezav/gitleaks/v8/config"
	"github.com/zricethezav/gitleaks/v8/detect"
	"github.com/zricethezav/gitleaks/v8/logging"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "secrets:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("name the directory of the repository")
	}
	logging.Logger = zerolog.Nop()
	detector, err := open(filepath.Join(args[0], ".gitleaks.toml"))
	if err != nil {
		return err
	}
	if err := planted(detector); err != nil {
		return err
	}
	files, err := tracked(args[0])
	if err != nil {
		return err
	}
	found, err := scan(detector, args[0], files)
	if err != nil {
		return err
	}
	if found > 0 {
		return fmt.Errorf("%d in %d files. Take out what is real, and make it invalid where it is valid; what only looks like a secret goes into .gitleaks.toml, with the reason", found, len(files))
	}
	fmt.Printf("no secret in %d files; the planted ones were found\n", len(files))
	return nil
}

// open reads the rules: those of gitleaks, but for what the file lets pass.
func open(file string) (*detect.Detector, error) {
	rules := viper.New()
	rules.SetConfigFile(file)
	if err := rules.ReadInConfig(); err != nil {
		return nil, err
	}
	var read config.ViperConfig
	if err := rules.Unmarshal(&read); err != nil {
		return nil, err
	}
	translated, err := read.Translate()
	if err != nil {
		return nil, err
	}
	if len(translated.Rules) < 100 {
		return nil, fmt.Errorf("only %d rules", len(translated.Rules))
	}
	return detect.NewDetectorContext(context.Background(), translated), nil
}

// planted looks for secrets made a moment ago, in a file of code and in one of
// settings.
func planted(detector *detect.Detector) error {
	token := "gh" + "p_" + random(36, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
	key := "AK" + "IA" + random(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
	for _, text := range []string{
		fmt.Sprintf("const token = %q\n", token),
		fmt.Sprintf("aws_access_key_id: %s\n", key),
		"-----BEGIN EC PRIVATE " + "KEY-----\n" + strings.Repeat(random(64, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/")+"\n", 3) + "-----END EC PRIVATE " + "KEY-----\n",
	} {
		if len(detector.DetectBytes([]byte(text))) == 0 {
			return fmt.Errorf("the scanner does not find what was planted: %q", text)
		}
	}
	return nil
}

func random(n int, from string) string {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	for i := range b {
		b[i] = from[int(b[i])%len(from)]
	}
	return string(b)
}

// tracked are the files that are, or could be, committed.
func tracked(dir string) ([]string, error) {
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = dir
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	var files []string
	for name := range bytes.SplitSeq(out, []byte{0}) {
		if len(name) > 0 {
			files = append(files, string(name))
		}
	}
	if len(files) < 100 {
		return nil, fmt.Errorf("only %d files", len(files))
	}
	return files, nil
}

// maxText is how large a file is looked through; larger ones are data.
const maxText = 2 << 20

func scan(detector *detect.Detector, dir string, files []string) (found int, err error) {
	for _, name := range files {
		info, err := os.Lstat(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not yet committed
		}
		if err != nil {
			return found, err
		}
		if !info.Mode().IsRegular() || info.Size() > maxText {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return found, err
		}
		if bytes.IndexByte(text, 0) >= 0 {
			continue
		}
		for _, finding := range detector.DetectContext(context.Background(), detect.Fragment{Raw: string(text), FilePath: name}) {
			found++
			fmt.Fprintf(os.Stderr, "%s:%d: %s (%s): %.12s…\n", name, finding.StartLine+1, finding.Description, finding.RuleID, finding.Secret)
		}
	}
	return found, nil
}

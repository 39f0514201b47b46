package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// conclude writes what says what the files are and how they came about. It goes
// last: the checksums cover the bills of materials, the statement covers all.
func (r *release) conclude(ctx context.Context) error {
	for _, p := range r.platforms {
		for _, program := range programs {
			if _, err := os.Stat(r.built(program, p)); err != nil {
				continue // there is no agent for it
			}
			if err := r.bill(ctx, r.built(program, p)); err != nil {
				return err
			}
		}
	}
	digests, err := r.digests()
	if err != nil {
		return err
	}
	var lines strings.Builder
	for _, d := range digests {
		fmt.Fprintf(&lines, "%s  %s\n", d.sha256, d.name)
	}
	if err := os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(lines.String()), 0o644); err != nil {
		return err
	}
	statement, err := r.statement(digests)
	if err != nil {
		return err
	}
	name := filepath.Join(r.out, "slipway-"+r.number()+".provenance.json")
	if r.key == "" {
		return os.WriteFile(name, statement, 0o644)
	}
	return r.sign(ctx, statement, strings.TrimSuffix(name, ".json")+".dsse.json")
}

// bill writes the bill of materials of a program, read off the program itself.
// It has the commit's time, and a serial number made of what it lists.
func (r *release) bill(ctx context.Context, program string) error {
	file := program + ".cdx.json"
	command := exec.CommandContext(ctx, "go", "tool", "cyclonedx-gomod", "bin", "-json", "-std", "-output-version", "1.6", "-version", r.version, "-output", file, program)
	command.Dir = filepath.Join(r.root, "deploy", "release")
	command.Env = append(os.Environ(), "GOFLAGS=-mod=mod") // what it requires follows what the main module requires
	if text, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("bill of materials of %s: %w\n%s", program, err, text)
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	var bom cdx.BOM
	if err := errors.Join(cdx.NewBOMDecoder(in, cdx.BOMFileFormatJSON).Decode(&bom), in.Close()); err != nil {
		return err
	}
	digest, err := digestOf(program)
	if err != nil {
		return err
	}
	bom.SerialNumber = fmt.Sprintf("urn:uuid:%s-%s-5%s-a%s-%s", digest[:8], digest[8:12], digest[13:16], digest[17:20], digest[20:32])
	if bom.Metadata != nil {
		bom.Metadata.Timestamp = r.at.Format(time.RFC3339)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(&bom, cdx.SpecVersion1_6), out.Close())
}

// named is a file with its digest.
type named struct{ name, sha256 string }

func (r *release) digests() (all []named, err error) {
	files, err := filepath.Glob(filepath.Join(r.out, "*"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	for _, file := range files {
		digest, err := digestOf(file)
		if err != nil {
			return nil, err
		}
		all = append(all, named{filepath.Base(file), digest})
	}
	return all, nil
}

func digestOf(file string) (string, error) {
	text, err := os.ReadFile(file)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}

// buildType says what the parameters of a statement mean: those of this
// program's flags.
const buildType = "https://github.com/slipway/slipway/deploy/release@v1"

// statement is the in-toto statement, with SLSA's provenance, of all files.
func (r *release) statement(digests []named) ([]byte, error) {
	var platforms []any
	for _, p := range r.platforms {
		platforms = append(platforms, p.String())
	}
	parameters, err := structpb.NewStruct(map[string]any{"version": r.version, "platforms": platforms, "source": r.source})
	if err != nil {
		return nil, err
	}
	authorities, err := digestOf(r.authority)
	if err != nil {
		return nil, err
	}
	predicate := &provenance.Provenance{
		BuildDefinition: &provenance.BuildDefinition{
			BuildType: buildType, ExternalParameters: parameters,
			ResolvedDependencies: []*intoto.ResourceDescriptor{
				{Uri: "git+" + r.source, Digest: map[string]string{"gitCommit": r.commit}},
				{Name: "go", Uri: "pkg:generic/go@" + strings.TrimPrefix(runtime.Version(), "go")},
				{Name: "ca-certificates.crt", Digest: map[string]string{"sha256": authorities}},
			},
		},
		RunDetails: &provenance.RunDetails{Builder: &provenance.Builder{Id: buildType}},
	}
	if err := predicate.Validate(); err != nil {
		return nil, err
	}
	text, err := protojson.Marshal(predicate)
	if err != nil {
		return nil, err
	}
	content := &structpb.Struct{}
	if err := protojson.Unmarshal(text, content); err != nil {
		return nil, err
	}
	statement := &intoto.Statement{Type: intoto.StatementTypeUri, PredicateType: "https://slsa.dev/provenance/v1", Predicate: content}
	for _, d := range digests {
		statement.Subject = append(statement.Subject, &intoto.ResourceDescriptor{Name: d.name, Digest: map[string]string{"sha256": d.sha256}})
	}
	if err := statement.Validate(); err != nil {
		return nil, err
	}
	return canonical(statement)
}

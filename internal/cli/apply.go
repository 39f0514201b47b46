package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

func (a *app) apply() *cobra.Command {
	var files []string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "apply -f FILE…", Short: "Create and change resources as files declare them",
		Long: "Create and change resources as files declare them.\n\n" +
			"All documents are checked before the first is stored. Environments go first, then\nstamps, enrolments and routes. What a file does not mention stays as it is.",
		Example: "  slipway apply -f site.yaml\n  slipway export | sed 's/capacity: 20000/capacity: 30000/' | slipway apply -f -",
		Args:    someFile(&files),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			planned, err := a.plan(ctx, c, append(files, args...))
			if err != nil {
				return err
			}
			return a.carryOut(ctx, c, planned, dryRun)
		}),
	}
	filesFlag(cmd, &files)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, do nothing")
	return a.read(cmd)
}

func (a *app) diff() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use: "diff -f FILE…", Short: "Show what applying files would change; exits 3 if anything would",
		Args: someFile(&files),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			planned, err := a.plan(ctx, c, append(files, args...))
			if err != nil {
				return err
			}
			return a.showDifferences(planned)
		}),
	}
	filesFlag(cmd, &files)
	return a.read(cmd)
}

func (a *app) export() *cobra.Command {
	var secrets bool
	cmd := &cobra.Command{
		Use: "export", Short: "Write all resources as YAML that applies back without change", Args: cobra.NoArgs,
		Long: "Write all resources as YAML that applies back without change.\n\n" +
			"Symmetric keys stay out: `symmetricKey: {}` keeps the stored keys where there are\nsome and makes new ones elsewhere. --secrets writes them.",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			var all []any
			for _, kind := range resource.Kinds {
				stored, err := c.Resources(ctx, kind, secrets)
				if kind == resource.KindRole && problem.Is(err, problem.Denied) {
					a.note("roles are left out: %s\n", problem.Of(err).Message)
					continue
				}
				if err != nil {
					return err
				}
				for _, s := range stored {
					if s.Metadata.ETag == "" {
						continue // it is shipped, and nobody has declared another
					}
					s.Metadata = resource.Metadata{Name: s.Metadata.Name}
					if s.Spec, err = ownSpec(s.Resource); err != nil {
						return err
					}
					all = append(all, s.Resource)
				}
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			return writeDocuments(a.out, all)
		}),
	}
	cmd.Flags().BoolVar(&secrets, "secrets", false, "write symmetric keys too; the audit log records it")
	return a.read(cmd)
}

// ownSpec is what a resource says itself: an environment made from a blueprint
// says where it differs.
func ownSpec(r resource.Resource) (json.RawMessage, error) {
	if r.Kind != resource.KindEnvironment {
		return r.Spec, nil
	}
	spec, err := resource.SpecOf[resource.EnvironmentSpec](r)
	if err != nil || spec.Blueprint == "" {
		return r.Spec, err
	}
	return json.Marshal(spec.Own())
}

func filesFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "file", "f", nil, "YAML or JSON file with resources; - is stdin; may be repeated")
}

// someFile demands a file, by flag or by argument.
func someFile(files *[]string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(*files)+len(args) == 0 {
			return usage("name a file with -f; - reads stdin")
		}
		return nil
	}
}

// readResources reads all files and puts their resources in the order in which
// they can be applied.
func (a *app) readResources(files []string) ([]resource.Resource, error) {
	var all []resource.Resource
	for _, name := range files {
		text, err := a.readFile(name)
		if err != nil {
			return nil, err
		}
		some, err := resource.Decode(name, text)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	slices.SortStableFunc(all, func(x, y resource.Resource) int {
		return slices.Index(resource.Kinds, x.Kind) - slices.Index(resource.Kinds, y.Kind)
	})
	seen := map[string]bool{}
	for _, r := range all {
		if r.Kind == resource.KindRelease {
			return nil, withHint(problem.New(problem.Invalid, "release %s cannot be applied: a release is made once and stays as it is", r.Metadata.Name), "`slipway release create -f FILE` makes it")
		}
		if seen[label(r)] {
			return nil, problem.New(problem.Invalid, "%s is declared twice", label(r))
		}
		seen[label(r)] = true
	}
	return all, nil
}

// maxInput bounds what is read of a file or of stdin.
const maxInput = 8 << 20

func (a *app) readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(a.in, maxInput+1))
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxInput+1))
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return text, err
}

// label names a resource as the commands do.
func label(r resource.Resource) string {
	return strings.TrimSuffix(resource.Plural[r.Kind], "s") + "/" + r.Metadata.Name
}

// The results of applying a resource.
const (
	created   = "created"
	changed   = "changed"
	unchanged = "unchanged"
)

// step is what applying one resource comes to.
type step struct {
	declared    resource.Resource
	Resource    string       `json:"resource"`
	Result      string       `json:"result"`
	Differences []difference `json:"differences,omitempty"`
}

// plan finds out what applying files would do, without doing it.
func (a *app) plan(ctx context.Context, c *client.Client, files []string) ([]step, error) {
	all, err := a.readResources(files)
	if err != nil {
		return nil, err
	}
	steps := make([]step, 0, len(all))
	growing := false // something would be created that later resources may name
	for _, r := range all {
		s, err := planOne(ctx, c, r, growing)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", label(r), err)
		}
		growing = growing || s.Result == created && slices.Contains(named, r.Kind)
		steps = append(steps, s)
	}
	return steps, nil
}

func planOne(ctx context.Context, c *client.Client, r resource.Resource, growing bool) (step, error) {
	s := step{declared: r, Resource: label(r), Result: created}
	keys := namesKeys(r)
	stored, err := c.Resource(ctx, r.Kind, r.Metadata.Name, keys)
	exists := err == nil
	if err != nil && !problem.Is(err, problem.NotFound) {
		return s, err
	}
	after, err := c.Put(ctx, r, r.Metadata.ETag, true)
	if growing && refers(err) {
		// It names what this very plan may create first; the server decides
		// when that is there.
		after.Resource, err = r, nil
	}
	if err != nil {
		return s, err
	}
	if keys {
		if after.Spec, err = withKeys(after.Resource, stored.Resource, r); err != nil {
			return s, err
		}
	}
	if s.Differences, err = compare(stored.Spec, after.Spec); err != nil || !exists {
		return s, err
	}
	if len(s.Differences) == 0 && r.Kind == resource.KindRoute && after.Metadata.ETag != stored.Metadata.ETag {
		// Secrets are not shown, but the server knows that they differ.
		s.Differences = []difference{{"endpoint", "(a secret)", "(another secret)"}}
	}
	if s.Result = changed; len(s.Differences) == 0 {
		s.Result = unchanged
	}
	return s, nil
}

// references are the fields by which resources name others.
var references = []string{"spec.environment", "spec.promotesFrom", "spec.blueprint", "spec.autoMove.to", "spec.allocation.stamps", "spec.tenant", "spec.tenants"}

// named are the kinds that other resources name.
var named = []string{resource.KindTenant, resource.KindBlueprint, resource.KindEnvironment, resource.KindStamp}

// refers tells whether a refusal is about another resource that is not there.
func refers(err error) bool {
	return problem.Is(err, problem.Invalid) && slices.Contains(references, problem.Of(err).Field)
}

// carryOut stores what differs, in order, and tells each result as it is.
func (a *app) carryOut(ctx context.Context, c *client.Client, planned []step, dryRun bool) error {
	for _, s := range planned {
		if s.Result != unchanged && !dryRun {
			if _, err := c.Put(ctx, s.declared, s.declared.Metadata.ETag, false); err != nil {
				return fmt.Errorf("%s: %w", s.Resource, err)
			}
		}
		if a.asJSON {
			continue
		}
		result := s.Result
		if dryRun && result != unchanged {
			result = "would be " + result
		}
		if err := a.print("%s %s\n", s.Resource, result); err != nil {
			return err
		}
	}
	if a.asJSON {
		return jsonList(a, planned, "")
	}
	return nil
}

// showDifferences prints each resource that would change, with its fields.
func (a *app) showDifferences(planned []step) error {
	planned = slices.DeleteFunc(planned, func(s step) bool { return s.Result == unchanged })
	if a.asJSON {
		if err := jsonList(a, planned, ""); err != nil {
			return err
		}
	}
	for _, s := range planned {
		if a.asJSON {
			break
		}
		if err := a.print("%s would be %s\n%s", s.Resource, s.Result, textOf(s.Differences)); err != nil {
			return err
		}
	}
	if len(planned) > 0 {
		return answer(exitNo)
	}
	return nil
}

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// noun is a resource kind as a command.
type noun struct{ word, kind, about string }

var nouns = []noun{
	{"environment", resource.KindEnvironment, "Environments"}, {"stamp", resource.KindStamp, "Stamps"},
	{"enrollment", resource.KindEnrollment, "Individual enrolments"}, {"enrollment-group", resource.KindEnrollmentGroup, "Enrolment groups"},
}

func (a *app) resourceCommand(n noun) *cobra.Command {
	c := &cobra.Command{Use: n.word, Aliases: []string{n.word + "s"}, Short: n.about + ": list, show, delete"}
	var secrets bool
	show := a.reads(&cobra.Command{
		Use: "show NAME", Short: "Show one", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			r, err := api.Resource(c.Context(), n.kind, args[0], secrets)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(r)
			}
			return a.printYAML(r)
		},
	})
	if n.kind == resource.KindEnrollment || n.kind == resource.KindEnrollmentGroup {
		show.Flags().BoolVar(&secrets, "secrets", false, "with the symmetric keys; recorded in the audit log")
	}
	c.AddCommand(a.resourceList(n), show, &cobra.Command{
		Use: "delete NAME", Short: "Delete one", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			if err := api.Delete(c.Context(), n.kind, args[0]); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "deleted %s %s\n", n.word, args[0])
			return nil
		},
	})
	return c
}

func (a *app) resourceList(n noun) *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "list", Short: "List all", Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			all, err := api.Resources(c.Context(), n.kind, false)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(client.Page[client.Stored]{Items: all})
			}
			rows := [][]string{{"name", "spec", "updated"}}
			for _, r := range all {
				rows = append(rows, []string{r.Metadata.Name, summary(r.Spec), a.when(r.Metadata.UpdatedAt)})
			}
			return a.table(rows)
		},
	})
}

// summary is a spec on one line, without certificates and keys.
func summary(spec json.RawMessage) string {
	const most = 90
	var members map[string]any
	if json.Unmarshal(spec, &members) != nil {
		return ""
	}
	delete(members, "attestation")
	text, err := json.Marshal(members)
	if err != nil {
		return ""
	}
	if len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(text)
}

// printYAML prints a resource as a document that applies again.
func (a *app) printYAML(r client.Stored) error {
	text, err := asYAML(r)
	if err != nil {
		return err
	}
	_, err = a.out.Write(text)
	return err
}

func asYAML(r client.Stored) ([]byte, error) {
	r.Metadata = resource.Metadata{Name: r.Metadata.Name}
	text, err := json.Marshal(r.Resource)
	if err != nil {
		return nil, err
	}
	return yaml.JSONToYAML(text)
}

func (a *app) readFiles(files []string) ([]resource.Resource, error) {
	if len(files) == 0 {
		return nil, usage{fmt.Errorf("say which files: -f FILE, or -f - for standard input")}
	}
	var all []resource.Resource
	for _, file := range files {
		text, err := a.readFile(file)
		if err != nil {
			return nil, err
		}
		some, err := resource.Decode(file, text)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	slices.SortStableFunc(all, func(x, y resource.Resource) int {
		return slices.Index(resource.Kinds, x.Kind) - slices.Index(resource.Kinds, y.Kind)
	})
	return all, nil
}

func (a *app) readFile(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(a.in)
	}
	return os.ReadFile(file)
}

func (a *app) applyCommand() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use: "apply -f FILE…", Short: "Create or change resources as files declare them", Example: "  slipway apply -f environments.yaml -f line-7.yaml", Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := a.readFiles(files)
			if err != nil {
				return err
			}
			api, err := a.client()
			if err != nil {
				return err
			}
			for _, r := range all {
				if err := a.applyOne(c.Context(), api, r); err != nil {
					return fmt.Errorf("%s %s: %w", r.Kind, r.Metadata.Name, err)
				}
			}
			return nil
		},
	}
	c.Flags().StringArrayVarP(&files, "file", "f", nil, "file with resources (repeatable)")
	return c
}

func (a *app) applyOne(ctx context.Context, api *client.Client, r resource.Resource) error {
	before, err := api.Resource(ctx, r.Kind, r.Metadata.Name, false)
	if err != nil && !problem.Is(err, problem.NotFound) {
		return err
	}
	after, err := api.Put(ctx, r, "", false)
	if err != nil {
		return err
	}
	outcome := "changed"
	switch before.Metadata.ETag {
	case "":
		outcome = "created"
	case after.Metadata.ETag:
		outcome = "unchanged"
	}
	fmt.Fprintf(a.out, "%s %s %s\n", r.Kind, r.Metadata.Name, outcome)
	return nil
}

func (a *app) diffCommand() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use: "diff -f FILE…", Short: "Show what apply would change; exit code 3 when something would", Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := a.readFiles(files)
			if err != nil {
				return err
			}
			api, err := a.client()
			if err != nil {
				return err
			}
			different := false
			for _, r := range all {
				changes, err := a.diffOne(c.Context(), api, r)
				if err != nil {
					return fmt.Errorf("%s %s: %w", r.Kind, r.Metadata.Name, err)
				}
				different = different || changes
			}
			if different {
				return exit(exitDifferences)
			}
			return nil
		},
	}
	c.Flags().StringArrayVarP(&files, "file", "f", nil, "file with resources (repeatable)")
	return c
}

// diffOne compares what is stored with what would be, as the server says.
func (a *app) diffOne(ctx context.Context, api *client.Client, r resource.Resource) (bool, error) {
	before, err := api.Resource(ctx, r.Kind, r.Metadata.Name, false)
	if err != nil && !problem.Is(err, problem.NotFound) {
		return false, err
	}
	after, err := api.Put(ctx, r, "", true)
	if err != nil {
		return false, err
	}
	if before.Metadata.ETag == after.Metadata.ETag {
		return false, nil
	}
	old, err := decoded(before.Spec)
	if err != nil {
		return false, err
	}
	fresh, err := decoded(after.Spec)
	if err != nil {
		return false, err
	}
	what := "changes"
	if before.Metadata.ETag == "" {
		what = "is new"
	}
	fmt.Fprintf(a.out, "%s %s %s\n", r.Kind, r.Metadata.Name, what)
	if difference := cmp.Diff(old, fresh); difference != "" {
		fmt.Fprint(a.out, difference)
	} else {
		fmt.Fprintln(a.out, "  (keys that are not shown)")
	}
	return true, nil
}

func decoded(spec json.RawMessage) (value any, err error) {
	if len(spec) == 0 {
		return nil, nil
	}
	return value, json.Unmarshal(spec, &value)
}

func (a *app) exportCommand() *cobra.Command {
	var secrets bool
	c := &cobra.Command{
		Use: "export", Short: "Print every resource as YAML that applies again",
		Long: "Print every resource as YAML that applies again. Symmetric keys are left out\nunless asked for; applied to the same installation, those stored are kept.", Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			var b bytes.Buffer
			for _, kind := range resource.Kinds {
				all, err := api.Resources(c.Context(), kind, secrets)
				if err != nil {
					return err
				}
				for _, r := range all {
					text, err := asYAML(r)
					if err != nil {
						return err
					}
					if b.Len() > 0 {
						b.WriteString("---\n")
					}
					b.Write(text)
				}
			}
			_, err = a.out.Write(b.Bytes())
			return err
		},
	}
	c.Flags().BoolVar(&secrets, "secrets", false, "with the symmetric keys; recorded in the audit log")
	return c
}

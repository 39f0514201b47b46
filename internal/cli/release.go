package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

func (a *app) release() *cobra.Command {
	group := a.group("release", "Make, compare and sign releases: what runs, as one immutable set", `  slipway release create -f release.yaml --name v1.4.0
  slipway release diff v1.3.0 v1.4.0`, a.releaseCreate(), a.releaseList(), a.releaseShow(), a.releaseDiff(), a.releaseWhere(), a.releaseComponents(), a.releaseVulnerabilities(), a.releaseSign(), a.releaseDelete())
	group.Aliases = []string{"releases"}
	return group
}

func (a *app) releaseCreate() *cobra.Command {
	var file, name string
	cmd := a.read(&cobra.Command{
		Use: "create -f FILE", Short: "Make a release as a file declares it, sending the files that it names", Args: cobra.NoArgs,
		Long:    "Make a release as a file declares it. Artifacts with a path are sent first, from\nthe file's directory. Made again with the same content the release is the same;\nother content needs another name.",
		Example: "  slipway release create -f release.yaml --name v1.4.0",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			declared, err := a.readRelease(file)
			if err != nil {
				return err
			}
			if name != "" {
				declared.Metadata.Name = name
			}
			if err := resource.CheckName(resource.KindRelease, declared.Metadata.Name); err != nil {
				return err
			}
			spec, err := a.sendAll(ctx, c, filepath.Dir(file), declared)
			if err != nil {
				return err
			}
			r, err := c.CreateRelease(ctx, declared.Metadata.Name, spec)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(r)
			}
			return a.print("release/%s is release %d, sha256:%s\n", r.Name, r.Counter, r.Digest)
		}),
	})
	cmd.Flags().StringVarP(&file, "file", "f", "", "YAML or JSON file with the release; - is stdin")
	cmd.Flags().StringVar(&name, "name", "", "name of the release, instead of the file's")
	required(cmd, "file")
	return cmd
}

// required demands a flag that the command has.
func required(cmd *cobra.Command, flag string) {
	if err := cmd.MarkFlagRequired(flag); err != nil {
		panic(err) // the flag is not defined: a mistake in this package
	}
}

// readRelease reads the one release that a file declares.
func (a *app) readRelease(file string) (resource.Resource, error) {
	text, err := a.readFile(file)
	if err != nil {
		return resource.Resource{}, err
	}
	all, err := resource.Decode(file, text)
	if err == nil && (len(all) != 1 || all[0].Kind != resource.KindRelease) {
		err = problem.New(problem.Invalid, "%s: it must hold one document, of kind Release", file)
	}
	if err != nil {
		return resource.Resource{}, err
	}
	return all[0], nil
}

// sendAll sends the files that a release names by their path.
func (a *app) sendAll(ctx context.Context, c *client.Client, dir string, declared resource.Resource) (link.ReleaseSpec, error) {
	spec, err := resource.SpecOf[resource.ReleaseSpec](declared)
	if err != nil {
		return link.ReleaseSpec{}, err
	}
	return spec.Linked(func(_ string, from resource.ReleaseArtifact) (link.Artifact, error) {
		if from.Path == "" {
			return from.Artifact, nil
		}
		file := filepath.FromSlash(from.Path)
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		if from.File == "" {
			from.File = filepath.Base(file)
		}
		sent, err := a.send(ctx, c, file, from.File)
		if err != nil {
			return from.Artifact, fmt.Errorf("%s: %w", file, err)
		}
		if !a.asJSON {
			a.note("%s  %s  sha256:%s\n", clean(from.File), bytesOf(sent.Size), sent.SHA256)
		}
		from.SHA256, from.Size = sent.SHA256, sent.Size
		return from.Artifact, nil
	})
}

func digestOf(content io.Reader) (string, error) {
	sum := sha256.New()
	_, err := io.Copy(sum, content)
	return hex.EncodeToString(sum.Sum(nil)), err
}

func (a *app) releaseList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List releases, newest first", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Releases(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, r := range all {
				var software []string
				for _, s := range r.Spec.Software {
					software = append(software, s.Name+" "+s.Version)
				}
				rows[i] = []string{strconv.FormatInt(r.Counter, 10), r.Name, r.Spec.Type, r.Spec.Rollback, strings.Join(software, ", "), r.CreatedBy, a.when(&r.CreatedAt), "sha256:" + r.Digest[:12]}
			}
			return a.table([]string{"NUMBER", "NAME", "TYPE", "ROLLBACK", "SOFTWARE", "BY", "MADE", "DIGEST"}, rows)
		}),
	})
}

func (a *app) releaseShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show NAME", Short: "Show one release as the file that would make it", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeReleases,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			r, err := c.Release(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(r)
			}
			spec, err := json.Marshal(r.Spec)
			if err != nil {
				return err
			}
			text, err := yamlOf(resource.Resource{APIVersion: resource.APIVersion, Kind: resource.KindRelease, Metadata: resource.Metadata{Name: r.Name}, Spec: spec})
			if err != nil {
				return err
			}
			return a.print("# release %d, sha256:%s, made by %s %s\n%s", r.Counter, r.Digest, clean(r.CreatedBy), a.when(&r.CreatedAt), text)
		}),
	})
}

func (a *app) releaseDiff() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "diff A B", Short: "Tell in sentences how release B differs from release A; exits 3 if it does", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeReleases,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.DiffReleases(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			if a.asJSON {
				err = jsonList(a, all, "")
			}
			for _, change := range all {
				if err == nil && !a.asJSON {
					err = a.print("%s\n", clean(change.Text))
				}
			}
			if err == nil && len(all) > 0 {
				return answer(exitNo)
			}
			return err
		}),
	})
}

func (a *app) releaseComponents() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "components NAME", Short: "List what a release's software is made of, by its bills of materials", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeReleases,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.Components(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, one := range all {
				rows[i] = []string{one.Name, one.Version, one.PURL}
			}
			return a.table([]string{"COMPONENT", "VERSION", "PURL"}, rows)
		}),
	})
}

func (a *app) releaseVulnerabilities() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "vulnerabilities NAME", Short: "List the components of a release in which vulnerabilities are known, the worst first", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeReleases,
		Long:    "What is known is what `slipway vulnerability upload` has added. It is looked up anew each time, so a release can become\nvulnerable while it runs.",
		Example: "  slipway release vulnerabilities v1.4.0",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.ReleaseVulnerabilities(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, one := range all {
				rows[i] = []string{one.ID, one.Severity, one.Component.Name, one.Component.Version, a.when(&one.KnownAt), one.Summary}
			}
			return a.table([]string{"VULNERABILITY", "SEVERITY", "COMPONENT", "VERSION", "KNOWN SINCE", "SUMMARY"}, rows)
		}),
	})
}

func (a *app) releaseDelete() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a release that was never let into an environment", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeReleases,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := a.confirm(yes, "Delete the release %s", args[0]); err != nil {
				return err
			}
			if err := c.DeleteRelease(ctx, args[0]); err != nil {
				return err
			}
			return a.print("release/%s deleted\n", args[0])
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

// completeReleases offers the names of releases to the shell.
func (a *app) completeReleases(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.offer(cmd.Context(), func(ctx context.Context, c *client.Client, _ string) ([]string, error) {
		all, err := c.Releases(ctx)
		var found []string
		for _, r := range all {
			found = append(found, r.Name)
		}
		return found, err
	}, typed)
}

func (a *app) releaseSign() *cobra.Command {
	var environment, keyFile string
	var yes bool
	cmd := a.read(&cobra.Command{
		Use: "sign NAME --environment ENVIRONMENT --key FILE", Short: "Sign that an environment's devices may run a release", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeReleases,
		Long:    "Sign that an environment's devices may run a release. The key is one of those in\nthe environment's spec.signing.keys, and does not leave this machine. What is\nsigned is shown first: all releases that devices there may run then.",
		Example: "  slipway release sign v1.4.0 --environment production --key release-key.pem",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			text, err := os.ReadFile(keyFile)
			if err != nil {
				return err
			}
			key, err := readSigner(keyFile, text)
			if err != nil {
				return err
			}
			p, err := c.Proposal(ctx, environment)
			if err != nil {
				return err
			}
			if err := a.showProposal(p, args[0]); err != nil {
				return err
			}
			if err := a.confirm(yes, "Sign that devices in %s may run these", environment); err != nil {
				return err
			}
			signed, err := key.sign(p)
			if err != nil {
				return err
			}
			after, err := c.SignProposal(ctx, environment, signed)
			if err != nil {
				return err
			}
			return a.showSigned(after)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "the environment it is for")
	cmd.Flags().StringVar(&keyFile, "key", "", "PEM file of the private key")
	a.complete(cmd, "environment", environments)
	required(cmd, "environment")
	required(cmd, "key")
	yesFlag(cmd, &yes)
	return cmd
}

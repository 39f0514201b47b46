package cli

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/signing"
	"github.com/slipway/slipway/internal/problem"
)

func (a *app) signing() *cobra.Command {
	return a.group("signing", "The signed metadata by which devices know what they may run", `  slipway signing root > root.json       # give it to devices when they are made
  slipway signing rotate timestamp`, a.signingRoot(), a.signingList(), a.signingGet(), a.signingRotate())
}

func (a *app) signingRoot() *cobra.Command {
	return &cobra.Command{
		Use: "root", Short: "Write the root of trust that devices are given when they are made", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error { return c.SigningRoot(ctx, a.out) }),
	}
}

func (a *app) signingGet() *cobra.Command {
	return &cobra.Command{
		Use: "get FILE", Short: "Write a file of signed metadata, such as timestamp.json or 2.root.json", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			return c.SigningMetadata(ctx, args[0], a.out)
		}),
	}
}

func (a *app) signingList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List the roles of the metadata, with who signs and until when it is good", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.SigningRoles(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, r := range all {
				by := "control"
				if !r.Held {
					by = strconv.Itoa(r.Threshold) + " of " + strconv.Itoa(len(r.Keys))
				}
				state := "signed"
				if r.Waiting {
					state = "waits for signatures"
				}
				rows[i] = []string{r.Name, strconv.FormatInt(r.Version, 10), a.when(&r.Expires), by, state, strings.Join(r.Releases, ", ")}
			}
			return a.table([]string{"ROLE", "VERSION", "EXPIRES", "SIGNED BY", "STATE", "RELEASES"}, rows)
		}),
	})
}

func (a *app) signingRotate() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "rotate ROLE", Short: "Give root, targets, snapshot, timestamp or an environment a new key", Args: cobra.ExactArgs(1),
		Long: "Give root, targets, snapshot, timestamp or an environment a new key. Devices\nfollow by themselves, as the old root signs the new one.",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := a.confirm(yes, "Replace the key of %s", args[0]); err != nil {
				return err
			}
			if err := c.RotateSigningKey(ctx, args[0]); err != nil {
				return err
			}
			return a.print("%s has a new key\n", args[0])
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

// signer is a person's key.
type signer struct {
	private crypto.Signer
	public  string // PEM
}

// readSigner reads a private key, of the kinds that may sign metadata.
func readSigner(name string, text []byte) (signer, error) {
	fault := problem.New(problem.Invalid, "%s holds no private key that can sign: PEM, Ed25519 or ECDSA P-256; `openssl genpkey -algorithm ed25519` makes one", name)
	block, _ := pem.Decode(text)
	if block == nil {
		return signer{}, fault
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if block.Type == "EC PRIVATE KEY" {
		key, err = x509.ParseECPrivateKey(block.Bytes)
	}
	if err != nil {
		return signer{}, fault
	}
	var private crypto.Signer
	switch key := key.(type) {
	case ed25519.PrivateKey:
		private = key
	case *ecdsa.PrivateKey:
		private = key
	default:
		return signer{}, fault
	}
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return signer{}, fault
	}
	return signer{private, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))}, nil
}

func (s signer) sign(p signing.Proposal) (signing.Signature, error) {
	message, hash := p.Payload, crypto.Hash(0)
	if _, curve := s.private.(*ecdsa.PrivateKey); curve {
		sum := sha256.Sum256(p.Payload)
		message, hash = sum[:], crypto.SHA256
	}
	sum, err := s.private.Sign(rand.Reader, message, hash)
	return signing.Signature{Version: p.Version, PublicKey: s.public, Signature: sum}, err
}

// signedTargets is what is read of the bytes to be signed: what they say
// counts, not what the server says of them.
type signedTargets struct {
	Type    string `json:"_type"`
	Version int64  `json:"version"`
	Expires string `json:"expires"`
	Targets map[string]struct {
		Length int64             `json:"length"`
		Hashes map[string]string `json:"hashes"`
	} `json:"targets"`
	Delegations json.RawMessage `json:"delegations"`
}

// showProposal shows what the bytes to be signed say, and refuses those that
// are not about the environment or do not name the release.
func (a *app) showProposal(p signing.Proposal, release string) error {
	var t signedTargets
	if err := json.Unmarshal(p.Payload, &t); err != nil || t.Type != "targets" || t.Version != p.Version || len(t.Delegations) > 0 {
		return problem.New(problem.Invalid, "what the server gives to be signed is not the metadata of an environment; it was not signed")
	}
	named := len(t.Targets) == 0
	a.note("version %d of %s, good until %s:\n", t.Version, p.Environment, t.Expires)
	for _, path := range slices.Sorted(maps.Keys(t.Targets)) {
		parts := strings.Split(path, "/")
		if len(parts) != 4 || parts[0] != p.Environment {
			return problem.New(problem.Invalid, "what the server gives to be signed names %s, which is not of %s; it was not signed", clean(path), p.Environment)
		}
		named = named || parts[1] == release
		file := t.Targets[path]
		a.note("  %s  %s  sha256:%s\n", clean(path), bytesOf(file.Length), clean(file.Hashes["sha256"]))
	}
	if !named {
		return problem.New(problem.Conflict, "what waits for signatures in %s does not name the release %s; is its promotion under way?", p.Environment, release)
	}
	return nil
}

func (a *app) showSigned(p signing.Proposal) error {
	if a.asJSON {
		return a.json(p)
	}
	if p.Complete {
		return a.print("signed: %d of %d signatures, devices in %s get it now\n", len(p.SignedBy), p.Threshold, p.Environment)
	}
	return a.print("signed: %d of %d signatures\n", len(p.SignedBy), p.Threshold)
}

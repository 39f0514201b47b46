package vault

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Config says where backups are kept and for whom they are encrypted, as a
// configuration file has it.
type Config struct {
	Vaults []Spec `json:"vaults"`
	// Recipients are the age public keys of those who recover. The identities
	// belong to them and to no file of this installation.
	Recipients     []string `json:"recipients"`
	BytesPerSecond int64    `json:"bytesPerSecond,omitempty"` // that each plane writes; 0 is no limit
}

// Spec is a vault in a configuration file.
type Spec struct {
	Name      string   `json:"name"`
	Regions   []string `json:"regions,omitempty"` // of the stamps it may hold; none is those that need not stay anywhere
	Directory string   `json:"directory,omitempty"`
	S3        *S3      `json:"s3,omitempty"`
	LockDays  int      `json:"lockDays,omitempty"` // how long nobody may remove what was written
}

// S3 is a bucket in a configuration file.
type S3 struct {
	Endpoint      string `json:"endpoint"`
	Bucket        string `json:"bucket"`
	Prefix        string `json:"prefix,omitempty"`
	Region        string `json:"region,omitempty"`
	AccessKey     string `json:"accessKey"`
	SecretKeyFile string `json:"secretKeyFile"`
}

// Recovery says what restores backups, as the file of the recovery role has it.
type Recovery struct {
	Vaults []Spec `json:"vaults"`
	// IdentityFile decrypts: it begins with AGE-SECRET-KEY-1.
	IdentityFile string `json:"identityFile"`
	// Signers are the keys that may have signed backups, as `slipway backup key`
	// shows them.
	Signers []string `json:"signers"`
}

// ReadConfig reads the file of --backups. Relative paths in it start where it is.
func ReadConfig(file string) (Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Config{}, err
	}
	return resource.DecodeOne(file, text, func(c Config) (Config, error) { return c, nil })
}

// Specs reads what vaults name, relative paths from a directory.
func Specs(all []Spec, dir string) ([]link.Vault, error) {
	var vaults []link.Vault
	for i, spec := range all {
		v := link.Vault{Name: spec.Name, Regions: spec.Regions, Directory: absolute(spec.Directory, dir), LockDays: spec.LockDays}
		if spec.S3 != nil {
			secret, err := os.ReadFile(absolute(spec.S3.SecretKeyFile, dir))
			if err != nil {
				return nil, problem.New(problem.Invalid, "cannot be read: %w", err).At(fmt.Sprintf("vaults[%d].s3.secretKeyFile", i))
			}
			v.S3 = &link.S3{Endpoint: spec.S3.Endpoint, Bucket: spec.S3.Bucket, Prefix: spec.S3.Prefix, Region: spec.S3.Region, AccessKey: spec.S3.AccessKey, SecretKey: strings.TrimSpace(string(secret))}
		}
		if err := Check(v); err != nil {
			return nil, err
		}
		vaults = append(vaults, v)
	}
	return vaults, nil
}

func absolute(path, dir string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// Keys are what a recovery has.
type Keys struct {
	Vaults     []*Vault
	Identities []age.Identity
	Signers    []ed25519.PublicKey
}

// ReadRecovery reads the file of the recovery role. Relative paths in it start
// where it is.
func ReadRecovery(file string) (k Keys, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return k, err
	}
	r, err := resource.DecodeOne(file, text, func(r Recovery) (Recovery, error) { return r, nil })
	if err != nil {
		return k, err
	}
	dir := filepath.Dir(file)
	if len(r.Vaults) == 0 || len(r.Signers) == 0 || r.IdentityFile == "" {
		return k, problem.New(problem.Invalid, "%s: name vaults, identityFile and signers", file)
	}
	vaults, err := Specs(r.Vaults, dir)
	if err != nil {
		return k, err
	}
	for _, spec := range vaults {
		v, err := Open(spec)
		if err != nil {
			return k, err
		}
		k.Vaults = append(k.Vaults, v)
	}
	for _, text := range r.Signers {
		key, err := ParseKey(text)
		if err != nil {
			return k, problem.Of(err).At("signers")
		}
		k.Signers = append(k.Signers, key)
	}
	identity, err := os.ReadFile(absolute(r.IdentityFile, dir))
	if err != nil {
		return k, problem.New(problem.Invalid, "cannot be read: %w", err).At("identityFile")
	}
	k.Identities, err = ParseIdentities(string(identity))
	return k, err
}

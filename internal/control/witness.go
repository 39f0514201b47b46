package control

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/blob"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Witnesses say who keeps the checkpoints of the audit log elsewhere.
type Witnesses struct {
	At []string // files, by their whole path, and URLs
	S3 *link.S3
}

// witnessTimeout bounds a request to a witness.
const witnessTimeout = 15 * time.Second

// Check reports the first witness that cannot be one.
func (w Witnesses) Check() error {
	for _, at := range w.At {
		if strings.Contains(at, "://") {
			if err := resource.CheckURL(at); err != nil {
				return err
			}
			continue
		}
		if !filepath.IsAbs(at) {
			return problem.New(problem.Invalid, "a witness is a URL, or a file by its whole path, not %q", at)
		}
	}
	return nil
}

func (w Witnesses) build(guard *outbound.Guard) ([]audit.Witness, error) {
	if err := w.Check(); err != nil {
		return nil, err
	}
	var all []audit.Witness
	for _, at := range w.At {
		if strings.Contains(at, "://") {
			all = append(all, audit.AtURL(at, guard.Client(witnessTimeout)))
		} else {
			all = append(all, audit.InFile(at))
		}
	}
	if w.S3 != nil {
		bucket, err := blob.OpenS3(*w.S3, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, audit.InBucket(w.S3.Bucket, bucket))
	}
	return all, nil
}

package api_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/dossier"
	"github.com/slipway/slipway/internal/control/retention"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

func held(ctx context.Context, q sqldb.Querier, device, tenant string) (string, bool, error) {
	h, held, err := retention.Held(ctx, q, device, tenant)
	return h.ID, held, err
}

// dossiers are of a world in which control keeps two things of every device,
// provisioning is away, and a file's name leads out of its folder.
func dossiers(log *audit.Log, stamps func(context.Context) ([]resource.Stamp, error)) *dossier.Dossiers {
	return dossier.New(dossier.Options{
		Audit: log, Stamps: stamps, Now: time.Now,
		Known: func(_ context.Context, _, subject string) error {
			if subject == "nobody" {
				return problem.New(problem.NotFound, "there is no device nobody")
			}
			return nil
		},
		Export: func(_ context.Context, peer, device string, each func(link.SubjectItem) error) error {
			if peer != link.ControlPeer {
				return errAway
			}
			if err := each(link.SubjectItem{Kind: "audit-names", Row: json.RawMessage(`{"object":"device/` + device + `"}`)}); err != nil {
				return err
			}
			return each(link.SubjectItem{Kind: "uploads", File: device + "/../../etc/passwd", Data: []byte("text")})
		},
	})
}

func TestADossierSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if status, text, _ := s.do("GET", "/api/v1/dossier?kind=device&subject=nobody&reason=r", ""); status != http.StatusNotFound {
		t.Errorf("of nobody: %d %s", status, text)
	}
	status, text, headers := s.do("GET", "/api/v1/dossier?kind=device&subject=acme-1&reason=request+7", "")
	if status != http.StatusOK || headers.Get("Content-Type") != "application/zip" {
		t.Fatalf("%d %v %s", status, headers, text)
	}
	archive, err := zip.NewReader(bytes.NewReader([]byte(text)), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, f := range archive.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		content[f.Name] = string(all)
	}
	if content["control/audit-names.jsonl"] != `{"object":"device/acme-1"}`+"\n" || content["control/files/acme-1/_/_/etc/passwd"] != "text" {
		t.Errorf("it holds %v", content)
	}
	var m dossier.Manifest
	if err := json.Unmarshal([]byte(content["manifest.json"]), &m); err != nil || m.Complete || m.Devices != 1 || len(m.Files) != 2 || !strings.Contains(strings.Join(m.Away, " "), "provisioning: nobody answers") {
		t.Errorf("the manifest is %+v, %v", m, err)
	}
	entries, err := s.log.List(t.Context(), "test", audit.Filter{Action: "data.export", Limit: 10})
	if err != nil || len(entries) != 1 || entries[0].Object != "device/acme-1" || entries[0].Reason != "request 7" {
		t.Errorf("recorded: %+v, %v", entries, err)
	}
}

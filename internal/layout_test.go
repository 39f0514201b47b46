// Package internal_test holds the layout to its rules: who may import whom,
// where each outside thing lives, that packages say what they are, and that
// docs/architecture.md shows the tree as it is. A new package or a new
// dependency means a new line here, which is the moment to think about it.
package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/slipway/slipway/"

// imports says which packages of ours a package may import; paths are below
// internal/ unless they begin with a slash.
const imports = `
/bench: /device ca client mqtt sastoken up
/cmd/slipway: cli
/cmd/slipway-agent: agent
/device: /device/retry mqtt propertybag sastoken
/device/retry:
/device/update: /device/retry

cli: client control/access control/artifact control/fleet control/gate control/promotion control/release control/rollout control/signing datadir link problem resource retrylint serve simfleet simscale sqldb up control/audit control/gateway control/grant control/featureflag flag control/backup drill recovery vault control/journal trail control/readiness control/insight care control/retention seal fleetfile rehearse control/rehearsal control/drift control/configuration control/incident control/decommission control/erasure control/dossier
client: control/access control/artifact control/audit control/environment control/fleet control/gate control/membership control/promotion control/release control/rollout control/signing link problem resource control/gateway control/grant control/featureflag flag control/backup control/alert control/journal control/readiness control/insight control/retention control/rehearsal control/drift control/configuration control/incident control/decommission control/erasure
up: bus ca control control/access datadir entrance link mqtt outbound problem provisioning resource simfleet sqldb stamp stamp/hub stamp/hubmqtt stamp/telemetry tasks stamp/ddi metrics vault trail httpserve inbound seal
serve: blob bus ca client control datadir entrance link mqtt outbound peer problem provisioning resource sqldb stamp stamp/hub stamp/hubmqtt stamp/telemetry stamp/throttle tasks stamp/ddi metrics vault trail httpserve inbound seal
fleetfile: link problem
simfleet: /device /device/retry /device/update
agent: /device /device/retry /device/update datadir problem resource
simscale: control/rollout link problem provisioning/allocation resource stamp/software

control: blob bus control/access control/api control/artifact control/audit control/console control/environment control/fleet control/gate control/membership control/migrations control/place control/promotion control/release control/rollout control/signin control/signing link outbound problem resource sqldb tasks control/monitor metrics seal control/gateway control/grant control/featureflag control/ofrep flag backup control/backup vault control/alert control/journal trail control/readiness control/evidence control/insight care control/retention control/rehearsal control/drift control/configuration control/incident control/probe control/decommission control/erasure control/dossier
control/access: control/audit problem sqldb tasks resource
control/api: control/access control/artifact control/audit control/environment control/fleet control/gate control/membership control/place control/promotion control/release control/rollout control/signin control/signing link problem resource control/gateway control/grant control/featureflag control/ofrep flag control/backup control/alert control/journal trail control/readiness control/insight control/retention control/rehearsal control/drift control/configuration control/incident control/decommission control/erasure control/dossier
control/artifact: blob control/access control/audit link problem sqldb
control/audit: problem sqldb blob seal
control/console: control/access control/audit control/environment control/fleet control/gate control/place control/promotion control/release control/rollout control/signin link problem resource control/gateway control/grant control/featureflag flag control/backup control/alert control/monitor /docs/runbooks control/journal control/rehearsal control/configuration control/drift trail control/incident control/decommission control/erasure control/retention
drill: link mqtt recovery sastoken sqldb up vault seal
rehearse: link mask problem recovery sqldb stamp/migrations stamp/twin transform vault
mask: problem
transform: problem
recovery: backup bus control/migrations link problem provisioning/migrations sqldb stamp/migrations vault
control/decommission: control/access control/audit link problem sqldb
control/erasure: care control/access control/audit link problem resource sqldb
control/dossier: control/access control/audit link problem resource
control/retention: care control/access control/audit link problem resource sqldb
control/backup: control/access control/audit link problem resource sqldb vault
control/configuration: control/access control/audit control/drift control/gate link problem resource sqldb
control/drift: control/access control/audit control/environment link problem resource sqldb
control/environment: bus control/access control/audit link problem resource sqldb seal
control/rehearsal: control/access control/audit link problem resource sqldb
control/fleet: bus control/access control/audit control/environment link problem resource sqldb tasks
control/membership: control/access control/audit link problem sqldb
control/place: control/access link problem sqldb
control/promotion: control/access control/audit control/gate control/rollout link outbound problem resource sqldb tasks
control/rollout: control/access control/audit control/gate link problem resource sqldb tasks
control/gate: control/access control/audit control/fleet control/release link outbound problem resource sqldb control/featureflag flag control/readiness control/rehearsal control/drift
control/gateway: control/access control/audit control/fleet control/grant link problem sqldb tasks
control/grant: control/access control/audit problem resource sqldb tasks
control/evidence: control/access control/alert control/audit control/backup control/environment control/featureflag control/fleet control/gate control/grant control/membership control/monitor control/promotion control/readiness control/release control/rollout control/signing link problem resource sqldb control/journal control/drift
control/insight: control/promotion control/rollout link problem resource
control/readiness: control/access control/audit problem resource sqldb tasks vault
control/featureflag: control/access control/audit flag link problem resource sqldb tasks
control/ofrep: control/featureflag flag problem tasks
control/migrations:
control/monitor: bus link metrics problem resource tasks
control/incident: control/access control/audit control/monitor link problem resource sqldb
control/probe: /device bus link metrics problem resource tasks
control/journal: link metrics problem resource sqldb tasks
control/alert: control/access control/audit control/monitor outbound problem resource sqldb tasks
control/release: control/access control/artifact control/audit link problem resource sqldb flag
control/signin: control/access control/audit problem sqldb
control/signing: control/access control/audit control/release link problem resource sqldb seal

provisioning: bus link mqtt outbound policy problem provisioning/authority provisioning/directory provisioning/dpshttp provisioning/dpsmqtt provisioning/dpsservice provisioning/enrollment provisioning/issuing provisioning/migrations provisioning/registration sqldb tasks metrics backup care seal trail
provisioning/allocation: link problem
provisioning/attestation: link problem sastoken
provisioning/directory: link problem sqldb
provisioning/dpshttp: problem provisioning/attestation provisioning/dpswire provisioning/enrollment provisioning/registration
provisioning/dpsmqtt: mqtt problem provisioning/attestation provisioning/dpswire provisioning/enrollment provisioning/registration
provisioning/dpsservice: link outbound policy problem provisioning/directory provisioning/dpswire provisioning/enrollment provisioning/registration sastoken
provisioning/dpswire: link problem provisioning/attestation provisioning/registration
provisioning/enrollment: link problem provisioning/attestation provisioning/authority sqldb
provisioning/authority: link problem provisioning/attestation sqldb
provisioning/issuing: link problem sqldb
provisioning/migrations:
provisioning/registration: link problem provisioning/allocation provisioning/attestation provisioning/directory provisioning/enrollment provisioning/issuing sqldb metrics trail

stamp: stamp/processor amqp bus link mqtt outbound policy problem sqldb stamp/cluster stamp/command stamp/configuration stamp/consumer stamp/ddi stamp/delivery stamp/device stamp/endpoint stamp/hub stamp/hubamqp stamp/hubmqtt stamp/hubhttp stamp/job stamp/migrations stamp/query stamp/software stamp/telemetry stamp/tenant stamp/transfer stamp/trust stamp/twin stamp/upload tasks metrics stamp/feature backup vault care seal trail
stamp/cluster: bus link problem sqldb tasks
stamp/command: link problem propertybag sqldb tasks
stamp/configuration: link problem sqldb stamp/device stamp/query stamp/twin stamp/touched
stamp/consumer: link problem sqldb stamp/telemetry
stamp/ddi: link problem sqldb stamp/device stamp/hub
stamp/delivery: link problem sqldb stamp/endpoint stamp/route stamp/telemetry
stamp/device: link problem sastoken sqldb stamp/query stamp/twin
stamp/endpoint: link outbound problem
stamp/feature: flag link problem sqldb stamp/device stamp/twin stamp/touched
stamp/hub: admission link problem sqldb stamp/command stamp/device stamp/telemetry stamp/tenant stamp/throttle stamp/twin metrics trail
stamp/hubamqp: amqp link policy problem sastoken stamp/hub stamp/telemetry stamp/throttle stamp/upload
stamp/hubmqtt: link mqtt problem propertybag stamp/command stamp/device stamp/hub
stamp/hubhttp: link policy problem propertybag sastoken stamp/command stamp/configuration stamp/device stamp/hub stamp/job stamp/query stamp/software stamp/throttle stamp/transfer stamp/twin stamp/upload
stamp/job: link problem sqldb stamp/query
stamp/migrations:
stamp/processor: problem
stamp/query: problem
stamp/route: link problem stamp/query stamp/telemetry
stamp/software: link problem sqldb stamp/device stamp/query stamp/twin stamp/touched
stamp/telemetry: bus link problem propertybag tasks care sqldb
stamp/tenant: link problem sqldb
stamp/twin: link problem sqldb
stamp/touched:
stamp/transfer: problem sqldb
stamp/throttle: problem
stamp/trust: link sqldb
stamp/upload: link problem sqldb tasks

admission:
amqp:
care: link problem sqldb tasks
backup: bus link problem sqldb vault
blob: link problem
bus: link problem trail
bus/bustest:
ca:
datadir: problem
entrance: amqp httpserve inbound mqtt
flag: problem
link:
metrics: link problem tasks trail
mqtt:
outbound: problem
policy: link problem sastoken sqldb
peer: link problem
problem:
propertybag: problem
resource: link problem flag mask transform
retrylint: problem
sastoken:
seal: problem
inbound: problem
httpserve:
sqldb: problem seal
sqldb/sqldbtest:
tasks:
trail: link problem
vault: blob link problem resource
updatetest: link mqtt sastoken
`

// homes says which packages may import something from outside, by the longest
// matching prefix. What has no line may be imported by tests only.
const homes = `
database/sql: control/access control/artifact control/audit control/environment control/fleet control/gate control/membership control/place control/promotion control/release control/rollout control/signin control/signing policy provisioning provisioning/authority provisioning/directory provisioning/enrollment provisioning/issuing provisioning/registration sqldb stamp/cluster stamp/command stamp/configuration stamp/consumer stamp/delivery stamp/device stamp/job stamp/software stamp/tenant stamp/transfer stamp/trust stamp/twin stamp/upload stamp/ddi control/gateway control/grant control/featureflag stamp/feature control/backup control/alert control/journal control/readiness care control/retention control/rehearsal control/configuration control/drift control/incident control control/decommission control/erasure
filippo.io/age: vault
github.com/coder/websocket: entrance
github.com/coreos/go-oidc/v3/oidc: control/signin
github.com/danielgtaylor/huma/v2: control/api
github.com/go-webauthn/webauthn: control/signin
github.com/goccy/go-yaml: cli resource
github.com/diegoholiveira/jsonlogic/v3: flag
github.com/gofrs/flock: datadir
github.com/google/go-tpm: provisioning/attestation
github.com/google/uuid: control/api control/console provisioning/dpswire stamp/hubmqtt stamp/hubhttp
github.com/itchyny/gojq: transform
github.com/santhosh-tekuri/jsonschema/v6: transform control/configuration
github.com/jackc/pgx/v5: sqldb sqldb/sqldbtest stamp/endpoint
github.com/klauspost/compress/s2: bus
github.com/klauspost/compress/zstd: vault
github.com/mattn/go-isatty: cli
github.com/minio/minio-go/v7: blob stamp/endpoint
github.com/nats-io/: bus
github.com/nats-io/nats.go: bus bus/bustest stamp/endpoint
github.com/package-url/packageurl-go: control/gate
github.com/prometheus/: control/monitor metrics control/alert
github.com/prometheus/client_golang: care control/monitor metrics provisioning/registration stamp/hub control/alert control/probe
github.com/pandatix/go-cvss: control/gate
github.com/parquet-go/parquet-go: stamp/endpoint
github.com/pressly/goose/v3: sqldb
github.com/pquerna/otp: control/signin
github.com/restic/chunker: vault
github.com/secure-systems-lab/go-securesystemslib: control/signing
github.com/sigstore/sigstore: control/signing
github.com/spf13/cobra: cli
github.com/theupdateframework/go-tuf/v2/metadata: control/signing /device/update updatetest
github.com/sigstore/sigstore/pkg/signature: control/signing updatetest
github.com/mochi-mqtt/server/v2: /bench
github.com/mochi-mqtt/server/v2/hooks/auth: /bench
github.com/mochi-mqtt/server/v2/listeners: /bench
github.com/teambition/rrule-go: resource
github.com/tetratelabs/wazero: stamp/processor
github.com/twmb/franz-go: stamp/endpoint
github.com/arran4/golang-ical: control/readiness
go.yaml.in/yaml/v3: control/alert control/readiness control/evidence
google.golang.org/protobuf: control/alert
golang.org/x/mod/semver: control/gate flag
golang.org/x/mod/sumdb: control/audit
github.com/twmb/murmur3: flag
golang.org/x/sync/errgroup: cli control/fleet control/retention provisioning/registration /bench vault
github.com/wI2L/jsondiff: control/drift
golang.org/x/text: control/configuration
golang.org/x/sys/unix: cli sqldb drill
go.opentelemetry.io/: trail
golang.org/x/crypto/argon2: control/signin
golang.org/x/oauth2: control/signin
golang.org/x/time/rate: control/access provisioning/registration stamp/hub stamp/tenant stamp/throttle provisioning/dpsservice vault trail
html/template: control/console control/readiness
modernc.org/sqlite: sqldb
`

// source is a package as it stands in the tree.
type source struct {
	files []*ast.File // without tests
}

func TestLayout(t *testing.T) {
	packages := load(t)
	allowed, home := table(t, imports), table(t, homes)
	for path, p := range packages {
		if len(p.files) == 0 {
			continue
		}
		may, known := allowed[path]
		if !known {
			t.Errorf("%s has no line in imports", path)
		}
		if !commented(p.files) {
			t.Errorf("%s has no package comment", path)
		}
		for _, imported := range importsOf(p.files) {
			checkImport(t, path, imported, may, home)
		}
		for _, f := range p.files {
			checkUses(t, path, f)
		}
	}
	for path := range allowed {
		if packages[path] == nil {
			t.Errorf("imports has a line for %s, which is not there", path)
		}
	}
	for path, may := range allowed {
		checkPlanes(t, path, may)
	}
}

func checkImport(t *testing.T, path, imported string, may []string, home map[string][]string) {
	t.Helper()
	if inner, ours := strings.CutPrefix(imported, module); ours {
		short := "/" + inner
		if below, internal := strings.CutPrefix(inner, "internal/"); internal {
			short = below
		}
		if !slices.Contains(may, short) {
			t.Errorf("%s must not import %s", path, short)
		}
		return
	}
	best := ""
	for prefix := range home {
		if strings.HasPrefix(imported, prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	outside := strings.Contains(strings.Split(imported, "/")[0], ".")
	if (best != "" || outside) && !slices.Contains(home[best], path) {
		t.Errorf("%s must not import %s: its home is %v", path, imported, home[best])
	}
}

// The planes share link and never one another; their edges are for their own
// assembly and for the one that runs all planes in one process.
func checkPlanes(t *testing.T, path string, may []string) {
	t.Helper()
	plane, _, _ := strings.Cut(path, "/")
	for _, imported := range may {
		other, _, _ := strings.Cut(imported, "/")
		if isPlane(plane) && isPlane(other) && plane != other {
			t.Errorf("%s must not import %s: planes share link only", path, imported)
		}
		edges := []string{"control/api", "control/console", "provisioning/dpsmqtt", "provisioning/dpshttp", "stamp/hubmqtt", "stamp/hubhttp", "stamp/hubamqp", "stamp/ddi"}
		if slices.Contains(edges, imported) && path != other && path != "up" && path != "serve" {
			t.Errorf("%s must not import %s: an edge is for its plane's assembly", path, imported)
		}
	}
}

func isPlane(name string) bool {
	return name == "control" || name == "provisioning" || name == "stamp"
}

// checkUses looks at what imports do not tell: programs end in cmd only, and
// stores read rows but leave databases to sqldb.
func checkUses(t *testing.T, path string, f *ast.File) {
	t.Helper()
	ast.Inspect(f, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		of, ok := selector.X.(*ast.Ident)
		if !ok || of.Obj != nil {
			return true
		}
		name := selector.Sel.Name
		switch {
		case (of.Name == "os" && name == "Exit" || of.Name == "log" && strings.HasPrefix(name, "Fatal")) && !strings.HasPrefix(path, "/cmd/") && path != "/bench":
			t.Errorf("%s must not use %s.%s: only programs end themselves", path, of.Name, name)
		case of.Name == "sql" && path != "sqldb" && name != "Rows" && !strings.HasPrefix(name, "Null"):
			t.Errorf("%s must not use sql.%s: databases are sqldb's", path, name)
		}
		return true
	})
}

func TestArchitectureShowsTheTree(t *testing.T) {
	text, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```tree\n")
	tree, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("docs/architecture.md has no block that begins with ```tree")
	}
	shown := map[string]bool{}
	var above []string
	for line := range strings.Lines(tree) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		depth := (len(line) - len(strings.TrimLeft(line, " "))) / 2
		if !strings.HasSuffix(name, "/") || depth > len(above) {
			t.Fatalf("line %q: directories end in / and are indented by two spaces", line)
		}
		above = append(above[:depth], strings.TrimSuffix(name, "/"))
		path := strings.Join(above, "/")
		shown[path] = true
		if info, err := os.Stat(filepath.Join("..", path)); err != nil || !info.IsDir() {
			t.Errorf("docs/architecture.md shows %s, which is not there", path)
		}
	}
	for path := range load(t) {
		dir := "internal/" + path
		if outer, top := strings.CutPrefix(path, "/"); top {
			dir = outer
		}
		if !shown[strings.TrimSuffix(dir, "/")] {
			t.Errorf("docs/architecture.md does not show %s", dir)
		}
	}
}

// load parses every package of the tree but what only tests read.
func load(t *testing.T) map[string]*source {
	t.Helper()
	packages := map[string]*source{}
	for _, root := range []string{"cmd", "device", "internal", "test", "bench"} {
		err := filepath.WalkDir(filepath.Join("..", root), func(file string, d fs.DirEntry, err error) error {
			switch {
			case os.IsNotExist(err):
				return nil
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules"):
				return fs.SkipDir
			case d.IsDir() || !strings.HasSuffix(file, ".go"):
				return nil
			}
			return add(packages, file)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return packages
}

func add(packages map[string]*source, file string) error {
	dir, err := filepath.Rel("..", filepath.Dir(file))
	if err != nil {
		return err
	}
	path := "/" + filepath.ToSlash(dir)
	if below, inner := strings.CutPrefix(path, "/internal"); inner {
		path = strings.TrimPrefix(below, "/")
	}
	p := packages[path]
	if p == nil {
		p = &source{}
		packages[path] = p
	}
	if strings.HasSuffix(file, "_test.go") {
		return nil
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err == nil {
		p.files = append(p.files, parsed)
	}
	return err
}

func table(t *testing.T, text string) map[string][]string {
	t.Helper()
	lines := map[string][]string{}
	for line := range strings.Lines(text) {
		name, rest, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found {
			continue
		}
		if _, twice := lines[name]; twice {
			t.Errorf("%s has two lines", name)
		}
		lines[name] = strings.Fields(rest)
	}
	return lines
}

func importsOf(files []*ast.File) []string {
	all := map[string]bool{}
	for _, f := range files {
		for _, spec := range f.Imports {
			if path, err := strconv.Unquote(spec.Path.Value); err == nil {
				all[path] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func commented(files []*ast.File) bool {
	return slices.ContainsFunc(files, func(f *ast.File) bool {
		return f.Doc != nil && (strings.HasPrefix(f.Doc.Text(), "Package "+f.Name.Name+" ") || strings.HasPrefix(f.Doc.Text(), "Command "))
	})
}

package serve

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/problem"
)

func read(t *testing.T, text string) (Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return ReadConfig(file)
}

func TestExamplesAreGood(t *testing.T) {
	for _, plane := range []string{Control, Provisioning, Stamp} {
		text, known := Example(plane)
		if !known {
			t.Fatalf("there is no example for %s", plane)
		}
		if c, err := read(t, text); err != nil || c.Plane != plane {
			t.Errorf("%s: %+v, %v", plane, c, err)
		}
	}
}

func TestAConfigSaysWhatIsWrongAndWhere(t *testing.T) {
	stamp := "plane: stamp\nname: one\ndata: d\nhosts: [one.example.com]\njoin: { control: https://c:8443 }\n"
	shared := stamp + "database: postgres://u@h/d\n"
	for text, want := range map[string]string{
		"plane: moon\ndata: d":                                              ":1:8: plane: must be control, provisioning or stamp",
		"plane: control":                                                    "data: is missing",
		"plane: control\ndata: d":                                           "hosts: is missing",
		stamp + "lisen: {}":                                                 ":6:1: lisen: no such field",
		stamp + "link: { listen: \":1\" }":                                  "link: a stamp only dials",
		stamp + "listen: { https: \":x\" }":                                 ":6:18: listen.https: a port is a number",
		stamp + "listen: { https: [1] }":                                    "listen.https: must be text",
		stamp + "tls: { key: x.pem }":                                       "certificate and key go together",
		stamp + "tls: { key: x.pem, certificate: y.pem }":                   "tls.certificate: cannot be read",
		stamp + "log: { level: loud }":                                      "log.level: must be debug",
		strings.Replace(stamp, "https://", "http://", 1):                    "join.control: must be the URL",
		strings.Replace(stamp, "one.example.com", "one:80", 1):              "hosts: entry 1 must be a host name",
		strings.Replace(stamp, "name: one", "name: ONE", 1):                 "name: must be the stamp's name",
		"plane: control\ndata: d\nhosts: [c]\nlisten: { http: :8080 }":      "listen.http: is not TLS",
		"plane: control\ndata: d\nhosts: [c]\njoin: { control: https://c }": "join: control joins nothing",
		stamp + "database: mysql://x":                                       "database: a database is named by postgres://",
		stamp + "database: postgres://u:secret@h/d?search_path=a,b":         "database: search_path is one schema",
		stamp + "limits: { sockets: -1 }":                                   "limits.sockets: must be 1 to",
		stamp + "limits: { connections: -1 }":                               "limits.connections: must be 1 to",
		stamp + "operations: { dances: 1 }":                                 "operations.dances: is no kind of operation",
		stamp + "operations: { queries: -1 }":                               "operations.queries: must not be negative",
		"plane: control\ndata: d\nhosts: [c]\noperations: { jobs: 1 }":      "operations: only a stamp has them",
		stamp + "limits: { telemetryBytes: 5 }":                             "limits.telemetryBytes: must be",
		"plane: control\ndata: d\nhosts: [c]\nlimits: { connections: 1 }":   "limits: only a stamp has them",
		"plane: control\ndata: d\nhosts: [c]\nartifacts: { directory: a, s3: { endpoint: https://s } }":                                  "artifacts: a directory or s3",
		"plane: control\ndata: d\nhosts: [c]\nartifacts: { s3: { endpoint: https://s } }":                                                "artifacts.s3: name the bucket",
		"plane: control\ndata: d\nhosts: [c]\nartifacts: { s3: { endpoint: s, bucket: b, accessKey: a, secretKeyFile: f } }":             "artifacts.s3.endpoint: the URL of a store",
		"plane: control\ndata: d\nhosts: [c]\nartifacts: { s3: { endpoint: \"https://s\", bucket: b, accessKey: a, secretKeyFile: f } }": "artifacts.s3.secretKeyFile: cannot be read",
		"plane: control\ndata: d\nhosts: [c]\nartifacts: { fileBytes: -1 }":                                                              "artifacts: a number of bytes",
		stamp + "artifacts: { directory: a }":                                                                                             "artifacts: only control keeps them",
		stamp + "updateClients: { pollSeconds: 90000 }":                                                                                   "updateClients.pollSeconds: must be 1 to",
		"plane: control\ndata: d\nhosts: [c]\nupdateClients: { pollSeconds: 1 }":                                                          "updateClients: only a stamp has them",
		"plane: control\ndata: d\nhosts: [c]\ncluster: { files: f }\n":                                                                    "cluster: only a stamp is several processes",
		stamp + "cluster: { files: f }":                                                                                                   "database: is missing",
		shared + "cluster: { files: f }":                                                                                                  "cluster.nats.servers: is missing",
		shared + "cluster: { nats: { servers: [\"nats://localhost\"] } }":                                                                 "cluster.files: is missing",
		shared + "cluster: { files: f, nats: { servers: [\"nats://10.0.0.1\"] } }":                                                        "cluster.nats.servers[0]: 10.0.0.1 is not on loopback",
		shared + "cluster: { files: f, nats: { servers: [\"nats://localhost\"], replicas: 2 } }":                                          "cluster.nats.replicas: must be 1, 3 or 5",
		shared + "cluster: { files: f, nats: { servers: [\"nats://localhost\"], key: k } }":                                               "cluster.nats: certificate and key go together",
		shared + "cluster: { files: f, nats: { servers: [\"nats://localhost\"], ca: nowhere } }":                                          "cluster.nats.ca: cannot be read",
		shared + "cluster: { process: P 1, files: f, nats: { servers: [\"nats://localhost\"] } }":                                         "cluster.process: must be 1 to 63",
		shared + "cluster: { files: f, nats: { listen: \":6222\", servers: [\"one.example.com:6222\"] } }":                                "cluster.nats.servers: with listen, names the servers of all processes",
		shared + "cluster: { files: f, nats: { listen: \":6222\", servers: [\"a:1\", \"b:1\", \"c:1\"] } }":                               "names this process's own once, by one of its hosts (one.example.com) or by a name that begins with",
		shared + "cluster: { files: f, nats: { listen: \":6222\", servers: [\"a:1\", \"tls://b\", \"c:1\"] } }":                           "cluster.nats.servers[1]: ",
		shared + "cluster: { files: f, nats: { listen: \"6222\", servers: [\"a:1\"] } }":                                                  "cluster.nats.listen: an address reads",
		shared + "cluster: { files: f, nats: { listen: \":6222\", credentials: c, servers: [\"one.example.com:1\", \"b:1\", \"c:1\"] } }": "leave out credentials",
		"plane: control\ndata: d\nhosts: [c]\nstandby: true\ndatabase: postgres://u@h/d\n":                                                "artifacts: is missing: a standby of control",
		"a: [": "c.yaml:",
	} {
		if _, err := read(t, text); !problem.Is(err, problem.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n  says %v\n  not  %s", text, err, want)
		}
	}
}

func TestPathsStartWhereTheFileIs(t *testing.T) {
	c, err := read(t, "plane: stamp\nname: one\ndata: d\nhosts: [h]\njoin: { control: https://c:8443, tokenFile: t }\n")
	if err != nil || !filepath.IsAbs(c.Data) || filepath.Dir(c.Data) != filepath.Dir(c.Join.TokenFile) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestProcessesOfAStampNeedLittle(t *testing.T) {
	c, err := read(t, "plane: stamp\nname: one\ndata: d\nhosts: [h]\njoin: { control: https://c:8443 }\ndatabase: postgres://u@h/d\n"+
		"cluster: { files: f, nats: { servers: [\"tls://a:4222\", \"tls://b:4222\", \"tls://c:4222\"] } }\n")
	if err != nil || c.Cluster.Process == "" || c.Cluster.NATS.Replicas != 3 || !filepath.IsAbs(c.Cluster.Files) {
		t.Errorf("%+v, %v", c.Cluster, err)
	}
}

func TestPodsFindTheirServerByTheirName(t *testing.T) {
	c, err := read(t, "plane: stamp\nname: one\ndata: d\nhosts: [h]\njoin: { control: https://c:8443 }\ndatabase: postgres://u@h/d\n"+
		"cluster: { process: one-1, files: f, nats: { listen: \":6222\", servers: [\"one-0.one.svc:6222\", \"one-1.one.svc:6222\", \"one-2.one.svc:6222\"] } }\n")
	if err != nil || len(c.Hosts) != 2 || c.Hosts[0] != "h" || c.Hosts[1] != "one-1.one.svc" || c.Cluster.NATS.of(c.Hosts)[0] != "one-1.one.svc:6222" {
		t.Errorf("%+v, %v", c.Hosts, err)
	}
}

func TestControlKeepsArtifactsInABucket(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("shh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := read(t, "plane: control\ndata: d\nhosts: [c]\nartifacts: { fileBytes: 5, s3: { endpoint: \"https://s3.example.com\", bucket: b, accessKey: a, secretKeyFile: "+secret+" } }\n")
	if err != nil {
		t.Fatal(err)
	}
	o, err := c.Artifacts.options()
	if err != nil || o.S3 == nil || o.S3.SecretKey != "shh" || o.S3.Bucket != "b" || o.Limits.File != 5 {
		t.Errorf("%+v, %v", o, err)
	}
}

//go:build deps

package main
import (
 _ "github.com/danielgtaylor/huma/v2"
 _ "github.com/danielgtaylor/huma/v2/adapters/humago"
 _ "github.com/goccy/go-yaml"
 _ "github.com/spf13/cobra"
 _ "github.com/nats-io/nats-server/v2/server"
 _ "github.com/nats-io/nats.go/jetstream"
 _ "modernc.org/sqlite"
 _ "github.com/pressly/goose/v3"
 _ "pgregory.net/rapid"
 _ "github.com/rogpeppe/go-internal/testscript"
 _ "github.com/chromedp/chromedp"
 _ "golang.org/x/time/rate"
 _ "golang.org/x/sync/errgroup"
 _ "github.com/google/go-cmp/cmp"
 _ "github.com/gofrs/flock"
 _ "github.com/mochi-mqtt/server/v2"
 _ "github.com/prometheus/client_golang/prometheus/promhttp"
)
func main(){}

# make run    an installation with a moving demo fleet
# make test   everything CI checks; installs what the tests need
# make check  formatting, vet, staticcheck: seconds
GO       ?= go
FUZZTIME ?= 20s
DEMO     ?= 25
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
LDFLAGS  := -s -w -X github.com/slipway/slipway/internal/cli.release=$(VERSION) -X github.com/slipway/slipway/internal/agent.release=$(VERSION)

.PHONY: build run check vulnerabilities setup-test test race whole postgres terraform terraform-provider release packaging reproducible fuzz models growth bench compatibility clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o slipway ./cmd/slipway
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o slipway-agent ./cmd/slipway-agent

run: build
	./slipway up --demo $(DEMO)

check:
	@unformatted=$$(gofmt -l cmd device internal deploy $(wildcard test bench)); \
	if [ -n "$$unformatted" ]; then echo "gofmt -w these:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	$(GO) vet -C tools ./...
	cd tools && $(GO) run ./secrets ..

# Known vulnerabilities that the programs can reach. Not part of check: what is
# found on a day depends on the day, and on the Go that is installed.
vulnerabilities:
	cd tools && $(GO) run ./vulnerabilities ..

# The browser, the MQTT command line clients and the npm SDKs that the tests
# drive. Does nothing, quickly, where all of it is there.
setup-test:
	@.ci/setup-test

test: check setup-test race whole postgres terraform packaging

# -p 2: packages that start many processes share two cores.
race:
	$(GO) test -race -p 2 -timeout 35m $$($(GO) list ./... | grep -v '/test$$')

# Whole installations, driven by clients nobody here wrote. What runs in them
# are processes of the plain binary, so the race detector would watch the
# drivers alone, at a multiple of their cost; what the processes are made of has
# been under it in race.
whole: setup-test
	$(GO) test -count=1 -timeout 35m ./test

# The suites of everything that keeps records, once more on PostgreSQL.
postgres:
	.ci/with-postgres $(GO) test -count=1 -timeout 20m ./internal/sqldb ./internal/stamp/... ./internal/provisioning/... ./internal/control/audit ./internal/control/membership ./internal/control/artifact ./internal/control/signing ./internal/control/grant ./internal/control/gateway ./internal/control/access ./internal/control/signin ./internal/control/alert ./internal/control/incident ./internal/control/backup ./internal/care ./internal/control/retention ./internal/control/decommission ./internal/control/erasure ./internal/control/rehearsal ./internal/control/configuration ./internal/control/drift ./internal/control/featureflag ./internal/control/gate ./internal/control/readiness ./internal/control/promotion ./internal/control/api

# The Terraform provider, a module of its own, under the real Terraform or
# OpenTofu. -mod=mod: what it requires follows what the main module requires.
PROVIDER := deploy/terraform/provider
terraform: setup-test
	$(GO) vet -C $(PROVIDER) -mod=mod ./...
	PATH=$$PATH:$$HOME/.cache/slipway $(GO) test -C $(PROVIDER) -mod=mod -count=1 -timeout 20m ./...

# dist/terraform: a mirror of the provider for this machine, as Terraform's
# filesystem_mirror reads it.
PROVIDER_VERSION ?= $(shell git describe --tags --abbrev=0 2>/dev/null | sed 's/^v//' | grep . || echo 0.0.1)
terraform-provider:
	CGO_ENABLED=0 $(GO) build -C $(PROVIDER) -mod=mod -trimpath -ldflags '-s -w -X main.version=$(PROVIDER_VERSION)' \
	  -o $(CURDIR)/dist/terraform/registry.terraform.io/slipway/slipway/$(PROVIDER_VERSION)/$$($(GO) env GOOS)_$$($(GO) env GOARCH)/terraform-provider-slipway_v$(PROVIDER_VERSION) .
	mkdir -p dist/terraform/registry.opentofu.org && cp -r dist/terraform/registry.terraform.io/slipway dist/terraform/registry.opentofu.org/

# dist/release: programs, packages, image, bills of materials, checksums,
# provenance; signed with RELEASE_KEY, if that names a key.
RELEASE_KEY ?=
release:
	$(GO) run -C deploy/release -mod=mod . -root $(CURDIR) -out $(CURDIR)/dist/release -version $(VERSION) $(if $(RELEASE_KEY),-key $(abspath $(RELEASE_KEY)))

# What a release is made with, checked by what others make of it: seconds.
packaging:
	$(GO) vet -C deploy/release -mod=mod ./...
	$(GO) test -C deploy/release -mod=mod -count=1 ./...

# Two whole releases from two copies of the tree, compared byte by byte.
reproducible:
	@set -e; dir=$$(mktemp -d); trap 'rm -rf '$$dir EXIT; \
	for n in one another; do git clone -q . $$dir/$$n/tree; \
	  $(GO) run -C $$dir/$$n/tree/deploy/release -mod=mod . -root $$dir/$$n/tree -out $$dir/$$n/release -version $(VERSION); done; \
	diff -r $$dir/one/release $$dir/another/release && echo "the two releases are the same bytes"

# Every fuzz target of the tree, one after the other.
fuzz:
	@set -e; for package in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "== $$package $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
	  done; \
	done

# The models of promotions, gates, rollouts with their waves, and the update
# client, over many more random histories than the tests take: about an hour.
HISTORIES ?= 1000000
models:
	$(GO) test -timeout 24h -run 'Model|Robot|Machine|Evidence|WorstKey' ./internal/control/promotion ./internal/control/gate ./internal/control/rollout ./device/update -rapid.checks=$(HISTORIES)

# What things cost as a fleet grows, for docs/growth.md, and the hot paths of a
# server process beside mosquitto and mochi, with ratios.
growth:
	$(GO) run ./bench -growth docs/img/growth.json
	cd tools && $(GO) run ./growthplot ../docs/img/growth.json ../docs/img/growth.svg

bench: setup-test
	$(GO) run ./bench

# docs/compatibility.md, from the tests that drive unmodified clients.
compatibility: setup-test
	SLIPWAY_COMPATIBILITY=1 $(GO) test -count=1 ./test -run 'Unmodified|UnmodifiedSDKs|DevicesWorkOver|BackEndsWorkOver|ATPMProves'

clean:
	rm -rf slipway slipway-agent dist

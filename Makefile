# make build   bin/thaw
# make build TAGS=gcs   with Google Cloud Storage as an origin, which weighs 20 MB
# make test    everything that must pass, installs what is missing (root)
# make demo    a small and a multi-GB image, pushed, created, invoked (root)
# make lint    the linters, installed on first use
# make bench   the measurements of SPECIFICATION.md (root, an idle machine)

GO      ?= go
INIT    := invoke/sandbox/pid1/initbin/thaw-init
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)

.PHONY: build test demo lint bench clean deps init

build: init
	CGO_ENABLED=0 $(GO) build -tags="$(TAGS)" -trimpath -ldflags="-s -w -X main.version=$(VERSION)" -o bin/thaw ./cmd/thaw

# The program that becomes process 1 of a sandbox, embedded into bin/thaw.
init:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w" -o $(INIT) ./invoke/sandbox/pid1/init

deps:
	@scripts/install-deps.sh

test: deps build
	scripts/test.sh

demo: deps build
	scripts/demo.sh

lint:
	scripts/lint.sh

bench: deps build
	bench/run.sh

clean:
	rm -rf bin .cache $(INIT)

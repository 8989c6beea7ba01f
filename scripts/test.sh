#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every test, cheapest first. A test whose condition is missing fails
# (THAW_TEST_STRICT), so a green run has tested everything.
set -euo pipefail
cd "$(dirname "$0")/.."
export THAW_TEST_STRICT=1

unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { echo "gofmt: $unformatted" >&2; exit 1; }
go mod tidy -diff
go vet ./...
go vet -tags gcs ./store/bucket # what the default build leaves out
go test ./internal/archtest
go test -timeout 45m ./... # the longest package, e2e, takes minutes on an idle machine and more beside others
# The packages where goroutines share state, once more under the race detector,
# without what measures memory, which the detector multiplies.
go test -race -short -timeout 15m ./image/apart ./image/ingest ./invoke/control ./read/tier/... ./read/keep ./store ./invoke/runtimeapi/... ./invoke/worker/... ./invoke/sandbox/lookup

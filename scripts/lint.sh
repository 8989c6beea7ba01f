#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the linters at a pinned version, installed below .cache on first use
# (several minutes on a small machine).
set -euo pipefail
cd "$(dirname "$0")/.."
version=v2.15.0
bin=$PWD/.cache/bin/golangci-lint-$version
if [ ! -x "$bin" ]; then
	mkdir -p .cache/bin
	GOBIN=$PWD/.cache/bin go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
	mv .cache/bin/golangci-lint "$bin"
fi
"$bin" run ./...

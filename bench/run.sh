#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the measurements that SPECIFICATION.md names, one after the other, on a
# machine that should do nothing else; keeps what they print.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p bench/results
out=bench/results/$(date +%Y%m%d-%H%M%S).txt
for name in size start peers burst drill touched seq warm ingest dedup l2 sandbox neighbours; do
	echo "== bench/$name"
	go run "./bench/$name"
done | tee "$out"
# A tenth of a zone; docs/zone-plan.md has the whole.
{
	echo "== bench/sim"
	go run ./bench/sim -scale 0.1
} | tee -a "$out"
echo "kept in $out"

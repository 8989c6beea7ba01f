#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Puts the programs of the peers into a folder below .cache/bin and prints its
# name. From Go modules, at the versions of containerd/go.mod: containerd with
# stargz-snapshotter, ctr and the shim (several minutes on a small machine). From
# Debian's packages: a registry, and the optimizer of eStargz images; they are
# unpacked, not installed, so that no service starts. Does nothing, and asks
# nobody, where everything is there already.
set -euo pipefail
cd "$(dirname "$0")/../.."
sources=(bench/peers/install.sh bench/peers/containerd/main.go bench/peers/containerd/go.sum)
bin=$PWD/.cache/bin/peers-$(cat "${sources[@]}" | sha256sum | cut -c 1-12)
if [ ! -d "$bin" ]; then
	mkdir -p .cache/bin
	work=$(mktemp -d .cache/peers-XXXXXX)
	trap 'rm -rf "$work"' EXIT
	work=$PWD/$work
	mkdir "$work/bin"

	echo "fetching: docker-registry stargz-snapshotter" >&2
	(cd "$work" && apt-get -o APT::Sandbox::User=root download -q docker-registry stargz-snapshotter >&2)
	for deb in "$work"/*.deb; do
		dpkg-deb -x "$deb" "$work/deb"
	done
	mv "$work"/deb/usr/bin/{docker-registry,ctr-remote} "$work/bin/"

	echo "building: containerd with stargz-snapshotter" >&2
	module=github.com/containerd/containerd/v2/cmd
	(cd bench/peers/containerd && go build -trimpath -ldflags="-s -w" \
		-tags no_btrfs,no_cri,no_devmapper,no_tracing,no_zfs -o "$work/bin/" \
		. "$module/ctr" "$module/containerd-shim-runc-v2") >&2
	mv "$work/bin" "$bin"
fi
echo "$bin"

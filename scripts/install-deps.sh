#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building and testing thaw needs beside Go: Debian packages, one
# client from npm, one server as a Go module. Does nothing, and asks nobody, where everything is there already.
set -euo pipefail
cd "$(dirname "$0")/.."

# command:package. What thaw itself needs to run is marked in the README; the
# rest are peers that the tests compare with and clients that they drive.
wanted=(
	fsck.erofs:erofs-utils crun:crun runc:runc umoci:umoci skopeo:skopeo buildah:buildah podman:podman
	/usr/bin/aws:awscli nft:nftables ip:iproute2 node:nodejs npm:npm python3:python3
	setfattr:attr setcap:libcap2-bin zstd:zstd jq:jq gcc:gcc make:make
	dpkg-deb:dpkg curl:curl memcached:memcached nginx:nginx-light caddy:caddy openssl:openssl
	strace:strace mmdebstrap:mmdebstrap cmake:cmake autoreconf:autoconf automake:automake libtoolize:libtool g++:g++
)
missing=()
for pair in "${wanted[@]}"; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair##*:}")
done
# node's headers, which npm builds a runtime client against: some packages of node bring them.
[ -e /usr/include/node/node_api.h ] || missing+=(libnode-dev)
if [ ${#missing[@]} -gt 0 ]; then
	echo "installing: ${missing[*]}" >&2
	if [ "$(id -u)" != 0 ]; then
		echo "install-deps.sh: run as root, or install by hand: ${missing[*]}" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	# The tests start servers of their own: none of the packages' is to run.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod +x $policy
		trap 'rm -f $policy' EXIT
	fi
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# AWS's JavaScript SDK, a client in the tests, at the versions of the lock file.
js=.cache/js
if [ ! -d $js/node_modules ]; then
	mkdir -p $js
	cp invoke/api/testdata/js/package*.json $js/
	npm ci --silent --no-audit --no-fund --prefix $js
fi

# The S3 server that origins are tested with: minutes to build on a small machine.
server=versitygw-v1.8.0
if [ ! -x ".cache/bin/$server" ]; then
	echo "building: $server" >&2
	mkdir -p .cache/bin
	GOBIN=$PWD/.cache/bin CGO_ENABLED=0 go install -trimpath -ldflags="-s -w" \
		"github.com/versity/versitygw/cmd/versitygw@${server#versitygw-}"
	mv .cache/bin/versitygw ".cache/bin/$server"
fi

# Registry clients that are Go modules, at the versions that internal/testkit names.
sed -n 's/^const [A-Za-z]* = "\(.*@v.*\)"$/\1/p' internal/testkit/tools.go | while read -r module; do
	folder=.cache/bin/${module##*/}
	name=${module##*/}
	if [ ! -x "$folder/${name%%@*}" ]; then
		echo "building: $name" >&2
		GOBIN=$PWD/$folder GOFLAGS= go install "$module"
	fi
done

#!/usr/bin/env bash
# Installs what building and testing thaw needs beside Go: Debian packages
# only. Does nothing, and asks no mirror, where everything is there already.
set -euo pipefail

# command:package. What thaw itself needs to run is marked in the README; the
# rest are peers that the tests compare with and clients that they drive.
wanted=(
	fsck.erofs:erofs-utils crun:crun umoci:umoci skopeo:skopeo buildah:buildah
	/usr/bin/aws:awscli nft:nftables ip:iproute2 node:nodejs python3:python3
	setfattr:attr setcap:libcap2-bin zstd:zstd jq:jq gcc:gcc make:make
	dpkg-deb:dpkg curl:curl
)
missing=()
for pair in "${wanted[@]}"; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair##*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing: ${missing[*]}" >&2
if [ "$(id -u)" != 0 ]; then
	echo "install-deps.sh: run as root, or install by hand: ${missing[*]}" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

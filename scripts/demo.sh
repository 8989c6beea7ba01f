#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Pushes a small and a multi-GB image to a fresh server, makes a function of
# each with the AWS CLI, invokes each cold and warm, and prints what it saw.
# Everything lives in a temporary folder and is gone afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d "${TMPDIR:-/tmp}/thaw-demo.XXXXXX")
server=
finish() {
	status=$?
	if [ -n "$server" ] && kill -TERM "$server" 2>/dev/null; then wait "$server" || true; fi
	[ $status -eq 0 ] || { echo "--- the end of the server's log:"; tail -20 "$work/serve.log"; } >&2
	rm -rf "$work"
	exit $status
}
trap finish EXIT
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "Building two images out of Debian packages: a Go function of 8 MB, and one of 5.8 GB in which Python is somewhere"
go build -o "$work/images" ./bench/images
"$work/images" -o "$work/oci" -cache "${THAW_CACHE:-.cache}/debs" -store zstd go-hello:1 big:1

say "Starting thaw on a temporary folder"
bin/thaw serve --data "$work/data" --listen 127.0.0.1:0 --admin-listen "" >"$work/serve.log" 2>&1 &
server=$!
exports=$(bin/thaw env --wait 30s --data "$work/data")
eval "$exports"
registry=${AWS_ENDPOINT_URL#http://}
lambda() { /usr/bin/aws --endpoint-url "$AWS_ENDPOINT_URL" lambda "$@"; }
echo "$AWS_ENDPOINT_URL"

invoke_ms() { # NAME -> milliseconds from request to answer; the answer in $work/answer
	curl -sS -o "$work/answer" -w '%{http_code} %{time_total}\n' -X POST -d '{"name":"thaw"}' -H 'Content-Type: application/json' \
		--aws-sigv4 "aws:amz:$AWS_REGION:lambda" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
		"$AWS_ENDPOINT_URL/2015-03-31/functions/$1/invocations" |
		awk '{ if ($1 != 200) { print "invoke: HTTP " $1 > "/dev/stderr"; exit 1 } printf "%.0f\n", $2 * 1000 }'
}

rows=()
for image in go-hello big; do
	say "$image: push with skopeo, create with the AWS CLI, invoke"
	start=$(date +%s.%N)
	skopeo copy -q --preserve-digests --dest-tls-verify=false --dest-creds "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
		"oci:$work/oci:$image:1" "docker://$registry/$image:v1"
	pushed=$(date +%s.%N)
	lambda create-function --function-name "$image" --package-type Image --code "ImageUri=$registry/$image:v1" \
		--role arn:aws:iam::000000000000:role/demo --memory-size 1024 --timeout 30 --query FunctionArn --output text
	lambda wait function-active-v2 --function-name "$image"
	active=$(date +%s.%N)
	bin/thaw cache drop l1 --data "$work/data"
	cold=$(invoke_ms "$image")
	cat "$work/answer"; echo
	warm=$(for _ in $(seq 20); do invoke_ms "$image"; done | sort -n | sed -n 10p)
	report=$(bin/thaw image inspect "$image" --data "$work/data" --json)
	rows+=("$(jq -r --arg image "$image" --arg cold "$cold" --arg warm "$warm" \
		--arg push "$(awk "BEGIN{print $pushed-$start}")" \
		--arg ready "$(awk "BEGIN{print $active-$pushed}")" \
		'[$image, (.layerBytes/1e6|round), .files, (.touchedBytes/1e6*10|round/10), ($push|tonumber*10|round/10), ($ready|tonumber*10|round/10), $cold, $warm] | @tsv' <<<"$report")")
done

say "What the start of the large image read, of all its chunks"
bin/thaw image inspect big --data "$work/data" | tail -n +2

say "Result"
{
	printf 'image\tMB in layers\tfiles\tMB read at start\tpush s\tready s\tcold ms\twarm ms\n'
	printf '%s\n' "${rows[@]}"
} | column -t -s "$(printf '\t')"

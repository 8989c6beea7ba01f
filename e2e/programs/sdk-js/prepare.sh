# SPDX-License-Identifier: Apache-2.0
# AWS's runtime client has a part in C++, which npm builds against the headers of the machine's node.
modules=.cache/programs/sdk-js-$(sha256sum e2e/programs/sdk-js/package-lock.json | cut -c1-16)
if [ ! -d "$modules" ]; then
	rm -rf "$modules.new"
	mkdir -p "$modules.new"
	cp e2e/programs/sdk-js/package*.json "$modules.new"
	(cd "$modules.new" && npm_config_nodedir=/usr npm ci --silent --no-audit --no-fund)
	mv "$modules.new" "$modules"
fi
cp -r "$modules/node_modules" "$1"

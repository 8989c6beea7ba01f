# SPDX-License-Identifier: Apache-2.0
# The adapter that makes a function of a web server.
CGO_ENABLED=0 go build -o "$1/adapter" ./examples/web/adapter

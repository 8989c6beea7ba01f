// SPDX-License-Identifier: Apache-2.0

// Package network gives sandboxes outbound access behind NAT where the operator
// wants it. It knows links, addresses and packet filters, nothing of processes.
package network

import "regexp"

var instancePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,15}$`)

// ValidInstance reports whether s may name an instance: 1 to 16 of [a-z0-9-],
// which fits into the names of interfaces and tables.
func ValidInstance(s string) bool { return instancePattern.MatchString(s) }

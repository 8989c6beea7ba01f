// SPDX-License-Identifier: Apache-2.0

// Package tier answers "the sealed chunk of this name" from the nearest tier
// that has it, and counts which one that was. It knows which tier to ask, in
// what order and how often; it sees sealed bytes only, and neither keys nor
// manifests.
//
// A [Stack] promises:
//   - Each name is fetched once however many readers want it at a time; each
//     reader keeps its own context (see package flight).
//   - Fetches from the origin are bounded in number and each in time. What is
//     fetched ahead has a bound of its own, so that a demand read never waits
//     for room behind it.
//   - Caches are asked and filled, and never trusted with more than that: they
//     hand out verified bytes or nothing, and no failure of a cache is one of
//     the read.
//   - Bytes that the origin holds under a wrong name are [thaw.Corrupt], counted
//     and logged as an error: an operator has to look.
package tier

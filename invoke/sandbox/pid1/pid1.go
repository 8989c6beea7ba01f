// SPDX-License-Identifier: Apache-2.0

// Package pid1 holds what the kinds of sandbox share whose process 1 is our
// own small program: that program (init/) in a sealed file, the socket to it
// (wire/ has the messages), the ranges of user ids, the mapped root, and the
// life of a started sandbox. What isolates a sandbox, the kinds do.
package pid1

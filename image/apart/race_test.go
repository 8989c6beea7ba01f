// SPDX-License-Identifier: Apache-2.0

//go:build race

package apart_test

// underRace says whether the race detector runs.
const underRace = true

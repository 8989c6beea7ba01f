// SPDX-License-Identifier: Apache-2.0

package apart

// Confine is for a process that tries to take more than it may.
var Confine = confine

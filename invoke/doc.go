// SPDX-License-Identifier: Apache-2.0

// Package invoke is the path of an invocation, from the request to the function
// and back. It has no code; its folders are the stations:
//
//	api ─────────▶ control          Lambda's REST; which function, in which state
//	 │
//	 └─▶ worker ──▶ Rootfs          an idle sandbox, or a start: image and
//	       │   └──▶ sandbox         jail side by side
//	       │            ▲
//	       ├─▶ runtimeapi ◀── the function, over its own loopback: next, response
//	       └─▶ logs                 START, what it prints, END, REPORT
//
// placement says which worker of a fleet a start goes to. A server with one
// worker, its own, does not ask it.
//
// docs/invoke-path.md walks along it with numbers.
package invoke

// SPDX-License-Identifier: Apache-2.0

// Package worker runs invocations in sandboxes: it chooses an idle sandbox of
// the function or starts one, hands it the invocation, watches over its end,
// and keeps the sandbox, frozen, for the next. It knows how Lambda reports
// failures and logs; it knows neither how a root file system comes to be nor
// which kind of sandbox it uses, and it checks no caller's rights.
//
// One slot is one sandbox, alive or about to be. It serves one function
// revision for all its life and one invocation at a time:
//
//	starting ──▶ busy ──▶ finishing ──▶ idle ──▶ (frozen) ──▶ stopped
//	                ▲                     │
//	                └──────── leased ◀────┘
//
// An invocation is finishing once it is answered and until the runtime asks for
// the next one: its caller has gone on by then, its END and REPORT lines are
// still to come.
//
// Goroutines: each Invoke runs in its caller's; the worker owns one that reaps,
// two for each slot (the Runtime API, the watch for the sandbox's end), one for
// each slot that is being stopped and one for each invocation that finishes.
// Close waits for all of them.
//
// Files of the pool: pool.go leases slots and takes them back; queue.go serves
// who waits; share.go says what each tenant may have; usage.go tells of it.
//
// Locks, in this order: pool.mu, slot.freezeMu. Neither is held over a call to
// a sandbox but freezeMu over Freeze and Thaw, whose order it keeps.
package worker

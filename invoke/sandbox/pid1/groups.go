// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"context"
	"log/slog"

	"thaw.dev/thaw/invoke/sandbox/cgroup"
)

// OpenGroups opens the control groups of an instance (see [cgroup.Open]) and
// says what of functions' use this host does not count.
func OpenGroups(ctx context.Context, instance string, log *slog.Logger) (*cgroup.Parent, error) {
	groups, err := cgroup.Open(ctx, instance)
	if err != nil {
		return groups, err
	}
	for _, what := range groups.Uncounted() {
		log.Warn("the kernel does not count all memory that functions take: one can take it from the others", "what", what)
	}
	if !groups.SharesDisk() {
		log.Info("this host has no io controller of cgroup v2: a function that writes much to its /tmp slows down whatever else uses the disk")
	}
	return groups, nil
}

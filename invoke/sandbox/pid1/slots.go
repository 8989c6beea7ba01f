// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"hash/fnv"
	"sync"

	"thaw.dev/thaw"
)

// Every sandbox has a range of 65,536 user and group ids of the host to itself,
// so that what escapes one is nobody in all others. The ranges lie between
// those that systemd gives to containers (up to 0x6fffffff) and the numbers
// that some programs take for negative.
const (
	IDsPerSlot = 1 << 16
	firstID    = 0x70000000
	MaxSlots   = (0x80000000-firstID)/IDsPerSlot - 1
)

// Slots hands out id ranges. It is safe for concurrent use.
type Slots struct {
	mu   sync.Mutex
	used [MaxSlots]bool
	next int
}

// NewSlots begins at a place that depends on the instance: two instances on
// one host then rarely meet in a range. That they do weakens one layer of
// several.
func NewSlots(instance string) *Slots {
	h := fnv.New32a()
	_, _ = h.Write([]byte(instance))
	return &Slots{next: int(h.Sum32() % MaxSlots)}
}

// Take returns a slot, not one given back a moment ago if it can be helped.
func (s *Slots) Take() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range MaxSlots {
		slot := s.next
		s.next = (s.next + 1) % MaxSlots
		if !s.used[slot] {
			s.used[slot] = true
			return slot, nil
		}
	}
	return 0, thaw.Errorf("sandbox: ids", thaw.Throttled, "all %d id ranges are in use", MaxSlots)
}

func (s *Slots) Give(slot int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[slot] = false
}

// HostID returns the host's id for id 0 of a slot.
func HostID(slot int) int { return firstID + slot*IDsPerSlot }

package jail

import (
	"hash/fnv"
	"sync"

	"thaw.dev/thaw"
)

// Every jail has a range of 65,536 user and group ids of the host to itself,
// so that what escapes one is nobody in all others. The ranges lie between
// those that systemd gives to containers (up to 0x6fffffff) and the numbers
// that some programs take for negative.
const (
	idsPerSlot = 1 << 16
	firstID    = 0x70000000
	maxSlots   = (0x80000000-firstID)/idsPerSlot - 1
)

// slots hands out id ranges. It is safe for concurrent use.
type slots struct {
	mu   sync.Mutex
	used [maxSlots]bool
	next int
}

// newSlots begins at a place that depends on the instance: two instances on
// one host then rarely meet in a range. That they do weakens one layer of
// several.
func newSlots(instance string) *slots {
	h := fnv.New32a()
	_, _ = h.Write([]byte(instance))
	return &slots{next: int(h.Sum32() % maxSlots)}
}

// take returns a slot, not one given back a moment ago if it can be helped.
func (s *slots) take() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range maxSlots {
		slot := s.next
		s.next = (s.next + 1) % maxSlots
		if !s.used[slot] {
			s.used[slot] = true
			return slot, nil
		}
	}
	return 0, thaw.Errorf("jail: ids", thaw.Throttled, "all %d id ranges are in use", maxSlots)
}

func (s *slots) give(slot int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[slot] = false
}

// hostID returns the host's id for id 0 of a slot.
func hostID(slot int) int { return firstID + slot*idsPerSlot }

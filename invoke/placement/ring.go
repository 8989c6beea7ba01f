// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
)

// pointsPerWorker makes the workers' parts of the ring alike: they differ by an
// eighth then.
const pointsPerWorker = 64

// ring is a circle of 64-bit hashes with the points of the workers on it. It is
// immutable.
type ring struct {
	at   []uint64 // ascending
	host []int32  // whose point it is, an index into the hosts
}

func sortedHosts(hosts map[string]*Host) []*Host {
	return slices.SortedFunc(maps.Values(hosts), func(a, b *Host) int { return cmp.Compare(a.ID, b.ID) })
}

func newRing(hosts []*Host) ring {
	type point struct {
		at   uint64
		host int32
	}
	points := make([]point, 0, len(hosts)*pointsPerWorker)
	for i, h := range hosts {
		sum := fnv.New64a()
		sum.Write([]byte(h.ID))
		seed := mix(sum.Sum64())
		for n := range uint64(pointsPerWorker) {
			points = append(points, point{mix(seed ^ mix(n+1)), int32(i)})
		}
	}
	slices.SortFunc(points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.host, b.host))
	})
	r := ring{at: make([]uint64, len(points)), host: make([]int32, len(points))}
	for i, p := range points {
		r.at[i], r.host[i] = p.at, p.host
	}
	return r
}

// choice is the host that an image prefers after look others: that of the point
// which follows the look'th hash of the image. The same host may come again. The
// ring must not be empty.
func (r ring) choice(image uint64, look int) int {
	i, _ := slices.BinarySearch(r.at, mix(image^mix(uint64(look))))
	return int(r.host[i%len(r.host)])
}

// mix is the finalizer of SplitMix64: every bit of x decides on every bit of
// the result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

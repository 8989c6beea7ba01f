// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"thaw.dev/thaw"
)

// A working set is represented by pieces: runs of chunks that starts always
// read together. A cache holds whole pieces; reads and load are counted in
// chunks.
type piece uint32

// pieceChunks is the length of a piece of a base image: 2.3 MB.
const pieceChunks = 12

// baseTouched is how much of its base's pieces a function touches: three of
// four, each function others.
const baseTouched = 0.75

// population is the functions of a zone: on which base image each is built, and
// what a start of it touches.
type population struct {
	cfg       config
	bases     []base
	baseOf    []uint16 // a function
	version   []uint16 // a function: how often it was deployed anew
	shared    piece    // the pieces below are of base images
	baseShare float64
}

type base struct {
	first, end piece
	chunks     float64 // that a start of a function on it touches, in all
}

func newPopulation(cfg config) *population {
	r := rand.New(rand.NewPCG(cfg.seed, 1))
	p := &population{cfg: cfg, baseOf: make([]uint16, cfg.functions), version: make([]uint16, cfg.functions), baseShare: 1 - cfg.private}
	for range cfg.bases {
		bytes := cfg.touchMin * math.Pow(cfg.touchMax/cfg.touchMin, r.Float64())
		b := base{first: p.shared, chunks: bytes / cfg.chunkBytes()}
		p.shared += piece(math.Ceil(b.chunks * p.baseShare / baseTouched / pieceChunks))
		b.end = p.shared
		p.bases = append(p.bases, b)
	}
	popular := newZipf(cfg.bases, cfg.zipf, cfg.baseShift)
	for f := range p.baseOf {
		p.baseOf[f] = uint16(popular.draw(r))
	}
	return p
}

// image is what placement knows a function by.
func (p *population) image(f int) (id thaw.ImageID) {
	binary.BigEndian.PutUint64(id[:], mix(uint64(p.private(f))|1<<40))
	return id
}

// deploy gives the function a new version, whose private piece nobody has.
func (p *population) deploy(f int) { p.version[f]++ }

func (p *population) private(f int) piece {
	return p.shared + piece(f) + piece(p.version[f])*piece(p.cfg.functions)
}

// touch appends what a start of f reads, in order.
func (p *population) touch(to []piece, f int) []piece {
	b := p.bases[p.baseOf[f]]
	for q := b.first; q < b.end; q++ {
		if mix(uint64(f)<<32|uint64(q))%100 < 100*baseTouched {
			to = append(to, q)
		}
	}
	return append(to, p.private(f))
}

// chunks is the length of a piece. A private one is between half and one and a
// half of its share in a start on that base.
func (p *population) chunks(q piece) int {
	if q < p.shared {
		return pieceChunks
	}
	b := p.bases[p.baseOf[int(q-p.shared)%p.cfg.functions]]
	spread := 0.5 + float64(mix(uint64(q))>>11)/(1<<53)
	return max(1, int(b.chunks*p.cfg.private*spread))
}

func (p *population) bytes(q piece) int64 { return int64(float64(p.chunks(q)) * p.cfg.chunkBytes()) }

// nameOf stands for the name of a chunk of a piece: as good as random.
func nameOf(q piece, chunk int) (name thaw.ChunkName) {
	binary.BigEndian.PutUint64(name[:], mix(uint64(q)<<16|uint64(chunk)))
	return name
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

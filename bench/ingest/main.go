// Command ingest measures how fast an image becomes a function's: from
// create-function until the function is active, in bytes of uncompressed layer
// a second. Beside it, in the same run, what merely has to be done to the bytes
// of the layers: decompress them and hash them, by command-line tools.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"thaw.dev/thaw/bench/measure"
)

func main() {
	log.SetFlags(0)
	list := flag.String("images", "zstd=big:1,plain=big:1,gzip=py-data:1", "how layers are stored, and which image, separated by commas")
	flag.Parse()
	for _, item := range strings.Split(*list, ",") {
		store, tag, _ := strings.Cut(item, "=")
		if err := run(context.Background(), store, tag); err != nil {
			log.Fatal("bench/ingest: ", err)
		}
	}
}

// unpackers write a layer's uncompressed bytes to the standard output.
var unpackers = map[string]string{"plain": "cat", "gzip": "gzip -dc", "zstd": "zstd -dcq"}

func run(ctx context.Context, store, tag string) error {
	b, err := measure.Open(ctx) // a server of its own: the store is empty
	if err != nil {
		return err
	}
	defer b.Close()
	layout, err := b.Images(ctx, store, tag)
	if err != nil {
		return err
	}
	if err := b.Push(ctx, layout, tag); err != nil {
		return err
	}
	before, err := measure.ProcessorTime(b.PID())
	if err != nil {
		return err
	}
	start := time.Now()
	if err := b.CreatePushed(ctx, tag, "ingest"); err != nil {
		return err
	}
	took := time.Since(start)
	after, err := measure.ProcessorTime(b.PID())
	if err != nil {
		return err
	}
	peak, err := peakMB(b.PID())
	if err != nil {
		return err
	}
	var report struct {
		LayerBytes int64 `json:"layerBytes"`
		Files      int   `json:"files"`
	}
	if err := b.ThawJSON(ctx, &report, "image", "inspect", "ingest"); err != nil {
		return err
	}
	floor, err := unpackAndHash(ctx, layout, tag, store)
	if err != nil {
		return err
	}
	rate := func(d time.Duration) float64 { return float64(report.LayerBytes) / 1e6 / d.Seconds() }
	fmt.Printf("%s, %s layers: %.0f MB, %d files\n", tag, store, float64(report.LayerBytes)/1e6, report.Files)
	fmt.Printf("  create to active   %6.2f s  %.0f MB/s (promised 250), %.1f s of processor, at most %d MB resident\n",
		took.Seconds(), rate(took), (after - before).Seconds(), peak)
	fmt.Printf("  %-18s %6.2f s  %.0f MB/s\n", unpackers[store]+" | sha256sum", floor.Seconds(), rate(floor))
	fmt.Printf("%-44s %.2f\n", "time, ingest to unpacking and hashing", took.Seconds()/floor.Seconds())
	return nil
}

// unpackAndHash runs the tools over each layer, one after the other.
func unpackAndHash(ctx context.Context, layout, tag, store string) (time.Duration, error) {
	img, err := measure.Image(layout, tag)
	if err != nil {
		return 0, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	for _, layer := range manifest.Layers {
		script := unpackers[store] + " < " + blob(layout, layer.Digest) + " | sha256sum > /dev/null"
		if out, err := exec.CommandContext(ctx, "sh", "-c", script).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%s: %w: %s", script, err, out)
		}
	}
	return time.Since(start), nil
}

func blob(layout string, digest v1.Hash) string {
	return filepath.Join(layout, "blobs", digest.Algorithm, digest.Hex)
}

// peakMB is the most memory that a process had resident so far.
func peakMB(pid int) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	return kib >> 10, err
}

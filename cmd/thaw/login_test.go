// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestAddAuth: credentials are their owner's alone to read, whatever mode the
// file had, and the rest of the file, its owner and a link to it stay.
func TestAddAuth(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "real", "config.json"), filepath.Join(dir, "link.json")
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(`{"auths":{"other":{"auth":"o"}},"credsStore":"x"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	before, err := os.Open(file) // a reader of the old file sees no secret
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if err := addAuth(link, "host:1", "secret"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(file)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode(); mode != 0o600 {
		t.Errorf("the file has mode %v", mode)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is none any more: %v, %v", info, err)
	}
	old := make([]byte, 1000)
	if n, _ := before.Read(old); n != 49 {
		t.Errorf("who had it open reads %s", old[:n])
	}
	var got struct {
		Auths      map[string]struct{ Auth string }
		CredsStore string
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &got); err != nil || got.Auths["host:1"].Auth != "secret" || got.Auths["other"].Auth != "o" || got.CredsStore != "x" {
		t.Errorf("the file is %s, %v", text, err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	fresh := filepath.Join(dir, "new", "config.json")
	if err := addAuth(fresh, "host:1", "secret"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(fresh); err != nil || info.Mode() != 0o600 {
		t.Errorf("a new file: %v, %v", info, err)
	}
}

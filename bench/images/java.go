// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// java compiles the Java handler with the machine's JDK.
func (a apps) java(name, version string) (string, error) {
	source, err := a.files(name+"-source", map[string]string{
		"Bootstrap.java": strings.ReplaceAll(handler("Bootstrap.java"), "@VERSION@", version),
	})
	if err != nil {
		return "", err
	}
	dir := filepath.Join(a.work, name)
	cmd := exec.Command("javac", "--release", "17", "-d", dir, filepath.Join(source, "Bootstrap.java"))
	cmd.Stderr = os.Stderr
	return dir, cmd.Run()
}

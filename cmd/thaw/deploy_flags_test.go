// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"testing"
)

func TestSizesAndTimes(t *testing.T) {
	for text, want := range map[string]int32{"512": 512, "512M": 512, "512MB": 512, "512MiB": 512, "1G": 1024, "2gb": 2048, "": 0, "0": 0, "-1": 0, "x": 0, "1T": 0, "1.5G": 0, "9999999G": 0} {
		var m megabytes
		if err := m.UnmarshalText([]byte(text)); (err == nil) != (want > 0) || int32(m) != want {
			t.Errorf("%q is %d MB, error %v; want %d", text, m, err, want)
		}
	}
	for text, want := range map[string]int32{"20": 20, "20s": 20, "2m": 120, "1m30s": 90, "": 0, "0": 0, "-5s": 0, "1500ms": 0, "500ms": 0, "99999999h": 0, "x": 0} {
		var s seconds
		if err := s.UnmarshalText([]byte(text)); (err == nil) != (want > 0) || int32(s) != want {
			t.Errorf("%q is %d s, error %v; want %d", text, s, err, want)
		}
	}
}

// TestEnvironmentChanges: what --env does not name stays.
func TestEnvironmentChanges(t *testing.T) {
	have := map[string]string{"KEPT": "1", "CHANGED": "1", "REMOVED": "1"}
	s := settings{Env: []string{"CHANGED=2", "NEW=a,b=c", "EMPTY=", "REMOVED-", "ABSENT-", "DASH=x-"}}
	got, err := s.environment(have)
	want := map[string]string{"KEPT": "1", "CHANGED": "2", "NEW": "a,b=c", "EMPTY": "", "DASH": "x-"}
	if err != nil || !maps.Equal(got.Variables, want) {
		t.Errorf("environment %v, error %v; want %v", got, err, want)
	}
	if have["CHANGED"] != "1" {
		t.Error("what was there was changed in place")
	}
	for _, wrong := range []string{"A", "=1", "-", ""} {
		if _, err := (&settings{Env: []string{wrong}}).environment(nil); err == nil {
			t.Errorf("--env %q was taken", wrong)
		}
	}
}

// TestRepositoryName: a function has one repository, however it is named.
func TestRepositoryName(t *testing.T) {
	for name, want := range map[string]string{
		"hello": "hello", "arn:aws:lambda:us-east-1:123456789012:function:hello": "hello", "123456789012:function:hello:$LATEST": "hello", "hello:$LATEST": "hello",
	} {
		if got := repositoryName(name); got != want {
			t.Errorf("the repository of %s is %s, want %s", name, got, want)
		}
	}
	if repositoryName("Hello") == repositoryName("hello") {
		t.Error("two functions share a repository")
	}
}

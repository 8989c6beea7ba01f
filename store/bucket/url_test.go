// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"testing"

	"thaw.dev/thaw"
)

func TestURLs(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	for text, prefix := range map[string]string{
		"s3://b?region=r": "", "s3://b/?region=r": "", "s3://b/p?region=r": "p/", "s3://b/p/q/?region=r": "p/q/",
		"s3://b/p?endpoint=http://127.0.0.1:9&path_style=false": "p/", "azblob://c/p?account=a": "p/",
	} {
		b, err := Open(t.Context(), text, Options{})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if b.prefix != prefix {
			t.Errorf("%s has the prefix %q, want %q", text, b.prefix, prefix)
		}
		_ = b.Close()
	}
	for _, text := range []string{
		"s3://", "s3:///p", "s3://b", "s3://b:80/p?region=r", "s3://user:secret@b?region=r", "http://b", "ftp://b/p", "b/p",
		"s3://b?regoin=r", "s3://b?region=", "s3://b?region=r&region=s", "s3://b//p?region=r", "s3://b/a/../c?region=r",
		"s3://b?endpoint=localhost:9000", "s3://b?endpoint=ftp://h", "s3://b?endpoint=http://h&path_style=perhaps",
		"gs://b?region=r", "azblob://c", "s3://b?region=r;x",
	} {
		b, err := Open(t.Context(), text, Options{})
		if err == nil {
			t.Errorf("%s was taken", text)
			_ = b.Close()
		} else if thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("%s: kind %q: %v", text, thaw.KindOf(err), err)
		}
	}
}

// TestBudgetKeepsItsBounds: no more retries than there are tokens, and no more
// tokens than there were.
func TestBudgetKeepsItsBounds(t *testing.T) {
	b := newBudget(2)
	b.succeeded()
	for retry := range 3 {
		if b.take() != (retry < 2) {
			t.Error("a full budget of 2 gives other than 2 retries")
		}
	}
	for range 9 {
		b.succeeded()
	}
	if b.take() {
		t.Error("nine successes pay for a retry")
	}
	b.succeeded()
	b.succeeded()
	if !b.take() || b.take() {
		t.Error("ten successes don't pay for one retry")
	}
	if _, refused := b.state(); refused != 3 {
		t.Errorf("%d refusals are counted, want 3", refused)
	}
}

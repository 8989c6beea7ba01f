// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"context"
	"errors"

	"gocloud.dev/blob"

	"thaw.dev/thaw"
)

// Check asks the object store whether everything is as it must be: it can be
// reached, the bucket exists, may be listed (without which an absent object
// could not be told from a denied one), read and, where it is new, written, and
// it holds no other format. Its error says what to do. It is meant for the
// start, and for waiting until an outage is over.
func (b *Bucket) Check(ctx context.Context) error {
	const what = "origin"
	err := b.do(ctx, opList, what, func(ctx context.Context) (int, error) {
		_, _, err := b.blobs.ListPage(ctx, blob.FirstPageToken, 1, &blob.ListOptions{Prefix: b.prefix + formatKey})
		return 0, err
	})
	if err != nil {
		return advise(err)
	}
	var text []byte
	err = b.do(ctx, opGet, what+": read "+formatKey, func(ctx context.Context) (int, error) {
		text, err = b.read(ctx, b.prefix+formatKey, 0, int64(len(formatText)+1))
		return len(text), err
	})
	switch {
	case thaw.KindOf(err) == thaw.NotFound:
		err = b.put(ctx, what+": write "+formatKey, b.prefix+formatKey, []byte(formatText), false)
		return advise(err)
	case err != nil:
		return advise(err)
	case string(text) != formatText:
		return thaw.Errorf(what, thaw.Invalid, "%s: its format is %q, this program knows %q: choose another prefix", b.where, text, formatText)
	}
	return nil
}

// advise adds what an operator can do.
func advise(err error) error {
	f, is := errors.AsType[*outage](err)
	if !is {
		return err
	}
	advice := "check that the endpoint is right and reachable from here"
	switch f.result {
	case denied:
		advice = "check the credentials in the environment, the clock, and that they may list, get and put (docs/origin.md has the policy)"
	case noBucket:
		advice = "make the bucket, or correct --origin"
	case refused, unsupported:
		advice = "check region, endpoint and credentials"
	case throttled, failed:
		advice = "the object store is ill; nothing is to be done here"
	}
	return thaw.Errorf("", thaw.KindOf(err), "%w (%s)", err, advice)
}

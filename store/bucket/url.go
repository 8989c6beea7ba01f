// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// location is an origin's URL, taken apart.
type location struct {
	bucket, prefix string
	params         map[string]string
	open           func(context.Context, Options) (service, error)
}

// schemes are the services and the parameters that each understands.
var schemes = map[string]struct {
	params []string
	open   func(context.Context, location, Options) (service, error)
}{
	"s3":     {[]string{"endpoint", "region", "profile", "path_style"}, openS3},
	"gs":     {[]string{"endpoint"}, openGCS},
	"azblob": {[]string{"endpoint", "account"}, openAzure},
}

// parse takes a URL apart. It is strict: a parameter with a typo must not be
// one that silently has no effect.
func parse(text string) (location, error) {
	u, err := url.Parse(text)
	if err != nil {
		return location{}, errors.New("it is not a URL") // its text might show a secret
	}
	if u.User != nil {
		return location{}, errors.New("credentials don't belong into the URL: they are taken from the environment (docs/origin.md)")
	}
	scheme, ok := schemes[u.Scheme]
	if !ok {
		return location{}, fmt.Errorf("%q is none of s3, gs and azblob", u.Scheme)
	}
	if u.Host == "" || u.Port() != "" {
		return location{}, fmt.Errorf("the bucket's name is missing: %s://BUCKET/PREFIX", u.Scheme)
	}
	at := location{bucket: u.Host, params: map[string]string{}}
	if prefix := strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/"); prefix != "" {
		for element := range strings.SplitSeq(prefix, "/") {
			if element == "" || element == "." || element == ".." {
				return location{}, fmt.Errorf("the prefix %q has an element that is empty or dots", u.Path)
			}
		}
		at.prefix = prefix + "/"
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return location{}, fmt.Errorf("the parameters: %w", err)
	}
	for name, values := range query {
		if !slices.Contains(scheme.params, name) {
			return location{}, fmt.Errorf("%s:// has no parameter %q; it has %s", u.Scheme, name, strings.Join(scheme.params, ", "))
		}
		if len(values) != 1 || values[0] == "" {
			return location{}, fmt.Errorf("the parameter %q must have one value", name)
		}
		at.params[name] = values[0]
	}
	if endpoint := at.params["endpoint"]; endpoint != "" {
		if e, err := url.Parse(endpoint); err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" {
			return location{}, fmt.Errorf("the endpoint %q is not a URL such as http://127.0.0.1:9000", endpoint)
		}
	}
	at.open = func(ctx context.Context, o Options) (service, error) { return scheme.open(ctx, at, o) }
	return at, nil
}

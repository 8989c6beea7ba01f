// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	timeFormat = "20060102T150405Z"
	dayFormat  = "20060102"

	// maxExpires is the longest life of a presigned URL at AWS: a week.
	maxExpires = 7 * 24 * time.Hour
)

// scope is what a derived key is good for.
type scope struct {
	day, region, service, terminator string
}

// String returns the scope as it stands in a credential.
func (s scope) String() string {
	return s.day + "/" + s.region + "/" + s.service + "/" + s.terminator
}

// signature is what a request says about its own signature, nothing of it
// verified.
type signature struct {
	accessKeyID   string
	scope         scope
	date          time.Time
	signedHeaders []string // lower case, ascending
	signature     string   // hexadecimal
	presigned     bool
	expires       time.Duration // of a presigned request
}

// parseSignature finds the signature in the header or in the query.
func parseSignature(r *http.Request) (*signature, error) {
	authorization := r.Header["Authorization"]
	query := strings.Contains(r.URL.RawQuery, "X-Amz-Signature=") || strings.Contains(r.URL.RawQuery, "X-Amz-Algorithm=")
	var (
		sig   *signature
		token string
		err   error
	)
	switch {
	case len(authorization) == 0 && !query:
		return nil, reject(MissingAuthentication, "Missing Authentication Token")
	case len(authorization) > 1 || len(authorization) == 1 && query:
		return nil, reject(IncompleteSignature, "A request must have one signature, in the header or in the query.")
	case query:
		values, parseErr := url.ParseQuery(r.URL.RawQuery)
		if parseErr != nil {
			return nil, reject(IncompleteSignature, "The query is malformed.")
		}
		token = values.Get("X-Amz-Security-Token")
		sig, err = parsePresigned(values)
	default:
		token = r.Header.Get("X-Amz-Security-Token")
		sig, err = parseHeader(r, authorization[0])
	}
	if err != nil {
		return nil, err
	}
	if token != "" {
		// There are no temporary credentials here, so no token is valid: a
		// left-over AWS_SESSION_TOKEN should be told of, as AWS does.
		return nil, reject(UnrecognizedClient, "The security token included in the request is invalid.")
	}
	if !slices.Contains(sig.signedHeaders, "host") {
		return nil, reject(InvalidSignature, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	return sig, nil
}

func parseHeader(r *http.Request, authorization string) (*signature, error) {
	rest, ok := strings.CutPrefix(authorization, algorithm+" ")
	if !ok {
		first, _, _ := strings.Cut(authorization, " ")
		if !strings.HasPrefix(first, "AWS4") {
			// Another scheme may carry a secret; do not repeat it.
			first = "not AWS4"
		}
		return nil, reject(IncompleteSignature, "Unsupported AWS 'algorithm': '%s'. Expected '%s'.", clip(first), algorithm)
	}
	parts := make(map[string]string, 3)
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || parts[name] != "" {
			return nil, reject(IncompleteSignature, "The Authorization header is malformed: a part is no key=value pair, or there twice.")
		}
		parts[name] = value
	}
	var missing []string
	for _, name := range []string{"Credential", "SignedHeaders", "Signature"} {
		if parts[name] == "" {
			missing = append(missing, "Authorization header requires '"+name+"' parameter.")
		}
	}
	sig := &signature{signature: parts["Signature"], signedHeaders: strings.Split(parts["SignedHeaders"], ";")}
	switch date := r.Header.Get("X-Amz-Date"); {
	case date != "":
		t, err := time.Parse(timeFormat, date)
		if err != nil {
			return nil, reject(IncompleteSignature, "Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", clip(date))
		}
		sig.date = t
	default:
		t, err := http.ParseTime(r.Header.Get("Date"))
		if err != nil {
			missing = append(missing, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
		}
		sig.date = t.UTC()
	}
	if missing != nil {
		return nil, reject(IncompleteSignature, "%s", strings.Join(missing, " "))
	}
	return sig, sig.parseCredential(parts["Credential"])
}

func parsePresigned(values url.Values) (*signature, error) {
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"} {
		if len(values[name]) != 1 || values[name][0] == "" {
			return nil, reject(IncompleteSignature, "AWS query-string parameters must include '%s' once.", name)
		}
	}
	if got := values.Get("X-Amz-Algorithm"); got != algorithm {
		return nil, reject(IncompleteSignature, "Unsupported AWS 'algorithm': '%s'. Expected '%s'.", clip(got), algorithm)
	}
	date, err := time.Parse(timeFormat, values.Get("X-Amz-Date"))
	if err != nil {
		return nil, reject(IncompleteSignature, "Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", clip(values.Get("X-Amz-Date")))
	}
	seconds, err := strconv.Atoi(values.Get("X-Amz-Expires"))
	if err != nil || seconds < 1 || seconds > int(maxExpires.Seconds()) {
		return nil, reject(IncompleteSignature, "X-Amz-Expires must be between 1 and %d seconds.", int(maxExpires.Seconds()))
	}
	sig := &signature{presigned: true, date: date, expires: time.Duration(seconds) * time.Second,
		signature: values.Get("X-Amz-Signature"), signedHeaders: strings.Split(values.Get("X-Amz-SignedHeaders"), ";")}
	return sig, sig.parseCredential(values.Get("X-Amz-Credential"))
}

func (s *signature) parseCredential(credential string) error {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || parts[0] == "" {
		return reject(IncompleteSignature, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'.", clip(credential))
	}
	s.accessKeyID = parts[0]
	s.scope = scope{parts[1], parts[2], parts[3], parts[4]}
	if !slices.IsSorted(s.signedHeaders) {
		return reject(InvalidSignature, "SignedHeaders must be sorted and in lower case.")
	}
	return nil
}

// checkHeaders refuses a request with a header that acts on it but is not
// signed: whoever is between could add or change it.
func (s *signature) checkHeaders(r *http.Request) error {
	for name := range r.Header {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "x-amz-") || strings.HasPrefix(lower, "x-amz-cf-") {
			continue // x-amz-cf-id is what AWS's own proxy adds on the way
		}
		if _, ok := slices.BinarySearch(s.signedHeaders, lower); !ok {
			return reject(InvalidSignature, "There were headers present in the request which were not signed: %s", clip(lower))
		}
	}
	return nil
}

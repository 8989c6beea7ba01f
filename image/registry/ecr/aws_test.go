// SPDX-License-Identifier: Apache-2.0

package ecr_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/image/registry/ecr"
	"thaw.dev/thaw/internal/testkit"
)

const (
	awsCLI                = "/usr/bin/aws"
	alice   thaw.TenantID = "111111111111"
	bob     thaw.TenantID = "222222222222"
	noSuch                = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	confMT                = "application/vnd.docker.container.image.v1+json"
	layerMT               = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	imageMT               = "application/vnd.docker.distribution.manifest.v2+json"
)

// server is both interfaces of a registry on one port, as `thaw serve` has
// them. Who calls is read from the access key's id alone: signatures are
// another package's.
type server struct {
	*httptest.Server
	t     *testing.T
	store *registry.Store
	home  string
	dir   string // of the store
	log   bytes.Buffer
}

func start(t *testing.T) *server {
	t.Helper()
	o := registry.DefaultOptions(t.TempDir())
	s := &server{t: t, home: t.TempDir(), dir: o.Dir}
	o.Log = slog.New(slog.NewTextHandler(&s.log, nil))
	store, err := registry.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	tokens, err := registry.NewTokenIssuer(bytes.Repeat([]byte{9}, 32), currentKey)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/", registry.NewHandler(store, registry.BasicAuth(tokens, nil), tokens))
	mux.Handle("/", ecr.New(ecr.Config{Store: store, Tokens: tokens, Region: "eu-test-1", Log: o.Log,
		Endpoint: func(r *http.Request) *url.URL { return &url.URL{Scheme: "http", Host: r.Host} },
		Identify: func(r *http.Request) (thaw.TenantID, string, error) {
			for _, id := range []thaw.TenantID{alice, bob} {
				if strings.Contains(r.Header.Get("Authorization"), "Credential=KEY"+string(id)+"/") {
					return id, "KEY" + string(id), nil
				}
			}
			return "", "", thaw.Errorf("identify", thaw.Denied, "unknown key")
		}}))
	s.Server, s.store = httptest.NewServer(mux), store
	t.Cleanup(s.Close)
	return s
}

// lookup knows the keys that the tests sign with.
func lookup(_ context.Context, key string) (string, thaw.TenantID, error) {
	for _, id := range []thaw.TenantID{alice, bob} {
		if key == "KEY"+string(id) {
			return "x", id, nil
		}
	}
	return "", "", thaw.Errorf("lookup", thaw.NotFound, "no such key")
}

func currentKey(_ context.Context, t thaw.TenantID) (string, error) {
	_, _, err := lookup(context.Background(), "KEY"+string(t))
	return "KEY" + string(t), err
}

// aws runs `aws ecr ...` and returns what it printed.
func (s *server) aws(as thaw.TenantID, args ...string) (stdout, stderr string, err error) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), awsCLI, append([]string{"ecr", "--endpoint-url", s.URL, "--region", "eu-test-1", "--output", "json"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.home, "AWS_ACCESS_KEY_ID=KEY" + string(as), "AWS_SECRET_ACCESS_KEY=x",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1", "AWS_PAGER="}
	cmd.Dir = s.home
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// ok runs a command that must succeed and decodes its answer.
func (s *server) ok(as thaw.TenantID, args ...string) map[string]any {
	s.t.Helper()
	out, errs, err := s.aws(as, args...)
	if err != nil {
		s.t.Fatalf("aws ecr %v: %v\n%s", args, err, errs)
	}
	var got map[string]any
	if out != "" {
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			s.t.Fatalf("aws ecr %v printed %q: %v", args, out, err)
		}
	}
	return got
}

// fails runs a command that must fail with this type of error.
func (s *server) fails(as thaw.TenantID, want string, args ...string) {
	s.t.Helper()
	_, errs, err := s.aws(as, args...)
	if err == nil || !strings.Contains(errs, "("+want+")") {
		s.t.Errorf("aws ecr %v: %v, want %s\n%s", args, err, want, errs)
	}
}

// at walks into a decoded answer: names and indexes.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			v = v.(map[string]any)[step]
		case int:
			list := v.([]any)
			if step >= len(list) {
				t.Fatalf("no element %d in %v", step, list)
			}
			v = list[step]
		}
	}
	return v
}

func (s *server) expect(got, want any) {
	s.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("got %v, want %v", got, want)
	}
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// file writes data where the CLI finds it and returns its address.
func (s *server) file(name string, data []byte) string {
	s.t.Helper()
	path := filepath.Join(s.home, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// pushLayer uploads data in parts of the given size by the JSON API.
func (s *server) pushLayer(as thaw.TenantID, repo string, data []byte, part int) {
	s.t.Helper()
	id := at(s.t, s.ok(as, "initiate-layer-upload", "--repository-name", repo), "uploadId").(string)
	for first := 0; first < len(data); first += part {
		last := min(first+part, len(data)) - 1
		got := s.ok(as, "upload-layer-part", "--repository-name", repo, "--upload-id", id,
			"--part-first-byte", fmt.Sprint(first), "--part-last-byte", fmt.Sprint(last),
			"--layer-part-blob", "fileb://"+s.file("part", data[first:last+1]))
		s.expect(got["lastByteReceived"], last)
	}
	got := s.ok(as, "complete-layer-upload", "--repository-name", repo, "--upload-id", id, "--layer-digests", digest(data))
	s.expect(got["layerDigest"], digest(data))
}

// pushImage pushes an image of one layer and returns its manifest.
func (s *server) pushImage(as thaw.TenantID, repo, tag string, layer []byte) string {
	s.t.Helper()
	config := []byte(`{"os":"linux","of":"` + digest(layer) + `"}`)
	s.pushLayer(as, repo, config, len(config))
	s.pushLayer(as, repo, layer, len(layer)/2+1)
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"size":%d,"digest":%q},"layers":[{"mediaType":%q,"size":%d,"digest":%q}]}`,
		imageMT, confMT, len(config), digest(config), layerMT, len(layer), digest(layer))
	got := s.ok(as, "put-image", "--repository-name", repo, "--image-tag", tag, "--image-manifest", "file://"+s.file("manifest", []byte(manifest)))
	s.expect(at(s.t, got, "image", "imageId", "imageDigest"), digest([]byte(manifest)))
	return manifest
}

func TestRepositoriesByCLI(t *testing.T) {
	testkit.RequireTool(t, awsCLI)
	t.Parallel()
	s := start(t)
	got := s.ok(alice, "create-repository", "--repository-name", "team/app", "--tags", "Key=who,Value=me", "--image-scanning-configuration", "scanOnPush=true")
	s.expect(at(t, got, "repository", "repositoryArn"), "arn:aws:ecr:eu-test-1:111111111111:repository/team/app")
	s.expect(at(t, got, "repository", "repositoryUri"), strings.TrimPrefix(s.URL, "http://")+"/team/app")
	s.expect(at(t, got, "repository", "imageTagMutability"), "MUTABLE")
	s.expect(at(t, got, "repository", "imageScanningConfiguration", "scanOnPush"), true)
	s.fails(alice, "RepositoryAlreadyExistsException", "create-repository", "--repository-name", "team/app")
	s.fails(alice, "InvalidParameterException", "create-repository", "--repository-name", "No/Capitals")
	s.fails(alice, "InvalidParameterException", "create-repository", "--repository-name", "kms", "--encryption-configuration", "encryptionType=KMS")
	s.fails(alice, "AccessDeniedException", "create-repository", "--repository-name", "public/app")
	s.fails(alice, "InvalidTagParameterException", "create-repository", "--repository-name", "x2", "--tags", "Key=aws:x,Value=1")

	// The other account has neither seen nor taken the name.
	s.fails(bob, "RepositoryNotFoundException", "describe-repositories", "--repository-names", "team/app")
	s.fails(bob, "RepositoryNotFoundException", "describe-repositories", "--registry-id", string(alice))
	s.fails(bob, "RepositoryNotFoundException", "delete-repository", "--repository-name", "team/app", "--force")
	s.ok(bob, "create-repository", "--repository-name", "team/app")

	arn := "arn:aws:ecr:eu-test-1:111111111111:repository/team/app"
	s.ok(alice, "tag-resource", "--resource-arn", arn, "--tags", "Key=a,Value=b")
	s.expect(s.ok(alice, "list-tags-for-resource", "--resource-arn", arn), "map[tags:[map[Key:a Value:b] map[Key:who Value:me]]]")
	s.ok(alice, "untag-resource", "--resource-arn", arn, "--tag-keys", "who")
	s.expect(s.ok(alice, "list-tags-for-resource", "--resource-arn", arn), "map[tags:[map[Key:a Value:b]]]")
	s.fails(alice, "InvalidParameterException", "list-tags-for-resource", "--resource-arn", strings.ReplaceAll(arn, "111", "222"))

	for i := range 5 {
		s.ok(alice, "create-repository", "--repository-name", fmt.Sprintf("many%d", i))
	}
	names := func(got map[string]any) (names []any) {
		for _, r := range got["repositories"].([]any) {
			names = append(names, r.(map[string]any)["repositoryName"])
		}
		return names
	}
	// The CLI follows the pages by itself.
	s.expect(names(s.ok(alice, "describe-repositories", "--page-size", "2")), "[many0 many1 many2 many3 many4 team/app]")
	first := s.ok(alice, "describe-repositories", "--max-items", "2", "--page-size", "2")
	s.expect(names(first), "[many0 many1]")
	s.fails(alice, "InvalidParameterException", "describe-repositories", "--starting-token", "eyJuZXh0VG9rZW4iOiAiISEifQ==")
	s.expect(at(t, s.ok(alice, "delete-repository", "--repository-name", "many0"), "repository", "repositoryName"), "many0")
	s.fails(alice, "RepositoryNotFoundException", "delete-repository", "--repository-name", "many0")
}

func TestImagesByCLI(t *testing.T) {
	testkit.RequireTool(t, awsCLI)
	t.Parallel()
	s := start(t)
	s.fails(alice, "RepositoryNotFoundException", "initiate-layer-upload", "--repository-name", "app")
	s.ok(alice, "create-repository", "--repository-name", "app")
	layer := bytes.Repeat([]byte("layer"), 5000)
	manifest := s.pushImage(alice, "app", "v1", layer)
	id := digest([]byte(manifest))

	s.fails(alice, "ImageAlreadyExistsException", "put-image", "--repository-name", "app", "--image-tag", "v1", "--image-manifest", manifest)
	s.ok(alice, "put-image", "--repository-name", "app", "--image-tag", "v2", "--image-manifest", manifest)
	s.fails(alice, "ImageDigestDoesNotMatchException", "put-image", "--repository-name", "app", "--image-tag", "v3", "--image-manifest", manifest, "--image-digest", noSuch)
	s.fails(alice, "LayersNotFoundException", "put-image", "--repository-name", "app", "--image-tag", "v3", "--image-manifest", strings.ReplaceAll(manifest, digest(layer), noSuch))
	s.fails(alice, "InvalidParameterException", "put-image", "--repository-name", "app", "--image-tag", "v3", "--image-manifest", "{}")
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":%q,"size":7,"digest":%q}]}`, imageMT, noSuch)
	s.fails(alice, "ReferencedImagesNotFoundException", "put-image", "--repository-name", "app", "--image-tag", "v3", "--image-manifest", index)
	index = fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":%q,"size":%d,"digest":%q}]}`, imageMT, len(manifest), id)
	s.ok(alice, "put-image", "--repository-name", "app", "--image-tag", "multi", "--image-manifest", index)

	got := s.ok(alice, "describe-images", "--repository-name", "app", "--image-ids", "imageTag=v1")
	s.expect(at(t, got, "imageDetails", 0, "imageDigest"), id)
	s.expect(at(t, got, "imageDetails", 0, "imageTags"), "[v1 v2]")
	s.expect(at(t, got, "imageDetails", 0, "imageManifestMediaType"), imageMT)
	if n := at(t, got, "imageDetails", 0, "imageSizeInBytes").(float64); n <= float64(len(layer)) {
		t.Errorf("image size %v, more than the layer's %d expected", n, len(layer))
	}
	s.fails(alice, "ImageNotFoundException", "describe-images", "--repository-name", "app", "--image-ids", "imageTag=v9")
	s.expect(len(s.ok(alice, "list-images", "--repository-name", "app", "--page-size", "1")["imageIds"].([]any)), 3)
	s.expect(len(s.ok(alice, "list-images", "--repository-name", "app", "--filter", "tagStatus=UNTAGGED")["imageIds"].([]any)), 0)

	got = s.ok(alice, "batch-get-image", "--repository-name", "app", "--image-ids", "imageTag=v2", "imageTag=v9", "imageDigest="+id, "imageDigest="+noSuch+",imageTag=v1")
	s.expect(at(t, got, "images", 0, "imageManifest"), manifest)
	s.expect(at(t, got, "failures", 0, "failureCode"), "ImageNotFound")
	s.expect(at(t, got, "failures", 1, "failureCode"), "ImageTagDoesNotMatchDigest")

	s.fails(bob, "RepositoryNotFoundException", "batch-get-image", "--repository-name", "app", "--image-ids", "imageTag=v1")
	s.fails(alice, "RepositoryNotEmptyException", "delete-repository", "--repository-name", "app")
	got = s.ok(alice, "batch-delete-image", "--repository-name", "app", "--image-ids", "imageDigest="+id)
	s.expect(at(t, got, "failures", 0, "failureCode"), "ImageReferencedByManifestList")
	got = s.ok(alice, "batch-delete-image", "--repository-name", "app", "--image-ids", "imageTag=multi", "imageTag=v1", "imageTag=v2", "imageTag=v9")
	s.expect(len(got["imageIds"].([]any)), 3)
	s.expect(at(t, got, "failures", 0, "failureCode"), "ImageNotFound")
	s.expect(len(s.ok(alice, "list-images", "--repository-name", "app")["imageIds"].([]any)), 0)
	s.ok(alice, "delete-repository", "--repository-name", "app")
}

func TestMutabilityByCLI(t *testing.T) {
	testkit.RequireTool(t, awsCLI)
	t.Parallel()
	s := start(t)
	s.ok(alice, "create-repository", "--repository-name", "app", "--image-tag-mutability", "IMMUTABLE")
	first := s.pushImage(alice, "app", "v1", []byte("one"))
	second := s.pushImage(alice, "app", "v2", []byte("two"))
	s.fails(alice, "ImageTagAlreadyExistsException", "put-image", "--repository-name", "app", "--image-tag", "v1", "--image-manifest", second)
	s.ok(alice, "put-image-tag-mutability", "--repository-name", "app", "--image-tag-mutability", "MUTABLE")
	s.ok(alice, "put-image", "--repository-name", "app", "--image-tag", "v1", "--image-manifest", second)
	got := s.ok(alice, "batch-get-image", "--repository-name", "app", "--image-ids", "imageTag=v1")
	s.expect(at(t, got, "images", 0, "imageManifest"), second)
	got = s.ok(alice, "list-images", "--repository-name", "app", "--filter", "tagStatus=UNTAGGED")
	s.expect(at(t, got, "imageIds", 0, "imageDigest"), digest([]byte(first)))
}

func TestLayersByCLI(t *testing.T) {
	testkit.RequireTool(t, awsCLI)
	t.Parallel()
	s := start(t)
	s.ok(alice, "create-repository", "--repository-name", "app")
	data := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	s.pushLayer(alice, "app", data, 20_000)

	got := s.ok(alice, "batch-check-layer-availability", "--repository-name", "app", "--layer-digests", digest(data), noSuch, "sha256:beef")
	s.expect(at(t, got, "layers", 0, "layerAvailability"), "AVAILABLE")
	s.expect(at(t, got, "layers", 0, "layerSize"), len(data))
	s.expect(at(t, got, "layers", 1, "layerAvailability"), "UNAVAILABLE")
	s.expect(at(t, got, "failures", 0, "failureCode"), "InvalidLayerDigest")

	// What one account stores is nothing to the other.
	s.ok(bob, "create-repository", "--repository-name", "app")
	got = s.ok(bob, "batch-check-layer-availability", "--repository-name", "app", "--layer-digests", digest(data))
	s.expect(at(t, got, "layers", 0, "layerAvailability"), "UNAVAILABLE")
	s.fails(bob, "LayersNotFoundException", "get-download-url-for-layer", "--repository-name", "app", "--layer-digest", digest(data))

	id := at(t, s.ok(alice, "initiate-layer-upload", "--repository-name", "app"), "uploadId").(string)
	part := "fileb://" + s.file("part", []byte("abc"))
	s.fails(alice, "EmptyUploadException", "complete-layer-upload", "--repository-name", "app", "--upload-id", id, "--layer-digests", digest(data))
	s.fails(alice, "InvalidLayerPartException", "upload-layer-part", "--repository-name", "app", "--upload-id", id, "--part-first-byte", "5", "--part-last-byte", "7", "--layer-part-blob", part)
	s.fails(alice, "InvalidParameterException", "upload-layer-part", "--repository-name", "app", "--upload-id", id, "--part-first-byte", "0", "--part-last-byte", "7", "--layer-part-blob", part)
	s.fails(bob, "UploadNotFoundException", "upload-layer-part", "--repository-name", "app", "--upload-id", id, "--part-first-byte", "0", "--part-last-byte", "2", "--layer-part-blob", part)
	s.ok(alice, "upload-layer-part", "--repository-name", "app", "--upload-id", id, "--part-first-byte", "0", "--part-last-byte", "2", "--layer-part-blob", part)
	s.fails(alice, "InvalidLayerException", "complete-layer-upload", "--repository-name", "app", "--upload-id", id, "--layer-digests", digest(data))
	s.fails(alice, "UploadNotFoundException", "complete-layer-upload", "--repository-name", "app", "--upload-id", id, "--layer-digests", digest([]byte("abc")))

	got = s.ok(alice, "get-download-url-for-layer", "--repository-name", "app", "--layer-digest", digest(data))
	address := at(t, got, "downloadUrl").(string)
	s.expect(s.fetch(address), string(data))
	if body := s.fetch(strings.Replace(address, digest(data), noSuch, 1)); !strings.Contains(body, "UNAUTHORIZED") {
		t.Errorf("the address of one layer opened another: %s", body)
	}
}

func (s *server) fetch(address string) string {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(body)
}

// TestLoginByCLI is the line of every pipeline: get-login-password into a tool
// for images.
func TestLoginByCLI(t *testing.T) {
	testkit.RequireTool(t, awsCLI, "skopeo")
	t.Parallel()
	s := start(t)
	got := s.ok(alice, "get-authorization-token")
	s.expect(at(t, got, "authorizationData", 0, "proxyEndpoint"), s.URL)
	token, err := base64.StdEncoding.DecodeString(at(t, got, "authorizationData", 0, "authorizationToken").(string))
	if err != nil || !strings.HasPrefix(string(token), "AWS:") {
		t.Fatalf("authorization token %q: %v", token, err)
	}
	password, errs, err := s.aws(alice, "get-login-password")
	if err != nil {
		t.Fatal(errs)
	}
	host := strings.TrimPrefix(s.URL, "http://")
	login := exec.CommandContext(t.Context(), "skopeo", "login", "--tls-verify=false", "--authfile", filepath.Join(s.home, "auth.json"), "--username", "AWS", "--password-stdin", host)
	login.Stdin = strings.NewReader(password)
	if out, err := login.CombinedOutput(); err != nil {
		t.Fatalf("login: %v\n%s", err, out)
	}
	s.ok(alice, "create-repository", "--repository-name", "app")
	s.pushImage(alice, "app", "v1", []byte("layer"))
	inspect := exec.CommandContext(t.Context(), "skopeo", "inspect", "--raw", "--tls-verify=false", "--authfile", filepath.Join(s.home, "auth.json"), "docker://"+host+"/app:v1")
	if out, err := inspect.CombinedOutput(); err != nil || !strings.Contains(string(out), imageMT) {
		t.Fatalf("inspect: %v\n%s", err, out)
	}
	if _, errs, err := s.aws("999999999999", "get-authorization-token"); err == nil || !strings.Contains(errs, "UnrecognizedClientException") {
		t.Errorf("a stranger: %v, %s", err, errs)
	}
}

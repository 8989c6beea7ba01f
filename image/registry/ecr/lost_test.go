// SPDX-License-Identifier: Apache-2.0

package ecr_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// in is the input of an operation on the repository app.
type in map[string]any

// post does an operation as a client would, without the seconds that starting
// one takes, and returns its answer or the type of its error.
func (s *server) post(operation string, input in) (map[string]any, string) {
	s.t.Helper()
	input["repositoryName"] = "app"
	body, err := json.Marshal(input)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.URL, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921."+operation)
	r.Header.Set("Authorization", "Credential=KEY"+string(alice)+"/")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	got := map[string]any{}
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		s.t.Fatal(err)
	}
	if response.StatusCode == http.StatusOK {
		return got, ""
	}
	problem := at(s.t, got, "__type").(string)
	if (response.StatusCode >= 500) != (problem == "ServerException") {
		s.t.Errorf("%s: status %d of %s", operation, response.StatusCode, problem)
	}
	return nil, problem
}

// must does an operation that has to succeed.
func (s *server) must(operation string, input in) map[string]any {
	s.t.Helper()
	got, problem := s.post(operation, input)
	if problem != "" {
		s.t.Fatalf("%s %v: %s", operation, input, problem)
	}
	return got
}

// refused does an operation that has to fail.
func (s *server) refused(want, operation string, input in) {
	s.t.Helper()
	if got, problem := s.post(operation, input); problem != want {
		s.t.Errorf("%s %v: %q %v, want %s", operation, input, problem, got, want)
	}
}

func (s *server) upload(data []byte) {
	s.t.Helper()
	id := s.must("InitiateLayerUpload", in{})["uploadId"]
	s.must("UploadLayerPart", in{"uploadId": id, "partFirstByte": 0, "partLastByte": len(data) - 1, "layerPartBlob": data})
	s.must("CompleteLayerUpload", in{"uploadId": id, "layerDigests": []string{digest(data)}})
}

// lose takes a file of the repository away, as a lost disk would.
func (s *server) lose(folder, digest string) {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, "repos/*/app", folder, strings.Replace(digest, ":", "-", 1)))
	if err != nil || len(found) != 1 {
		s.t.Fatalf("%s: %v %v", digest, found, err)
	}
	if err := os.Remove(found[0]); err != nil {
		s.t.Fatal(err)
	}
}

// lossWorld is a repository with an image, v1, and an index of it, all.
func lossWorld(t *testing.T) (s *server, layer []byte, manifest, index string) {
	t.Helper()
	s, layer = start(t), []byte("a layer of some bytes")
	s.must("CreateRepository", in{})
	s.upload(layer)
	s.upload([]byte("{}"))
	manifest = fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"size":2,"digest":%q},"layers":[{"mediaType":%q,"size":%d,"digest":%q}]}`,
		imageMT, confMT, digest([]byte("{}")), layerMT, len(layer), digest(layer))
	s.must("PutImage", in{"imageTag": "v1", "imageManifest": manifest})
	index = fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":%q,"size":%d,"digest":%q}]}`, imageMT, len(manifest), digest([]byte(manifest)))
	s.must("PutImage", in{"imageTag": "all", "imageManifest": index})
	return s, layer, manifest, index
}

// TestLostLayer: a lost layer is the registry's fault where it is read, and not
// there where a client asks what to push; the push puts it back.
func TestLostLayer(t *testing.T) {
	s, layer, _, _ := lossWorld(t)
	s.lose("blobs", digest(layer))
	s.refused("ServerException", "GetDownloadUrlForLayer", in{"layerDigest": digest(layer)})
	s.refused("LayersNotFoundException", "GetDownloadUrlForLayer", in{"layerDigest": noSuch})
	got := s.must("BatchCheckLayerAvailability", in{"layerDigests": []string{digest(layer), noSuch}})
	s.expect(at(t, got, "layers", 0, "layerAvailability"), "UNAVAILABLE")
	s.expect(at(t, got, "layers", 1, "layerAvailability"), "UNAVAILABLE")
	s.expect(strings.Count(s.log.String(), digest(layer)+" of repository"), 2)
	s.upload(layer)
	s.must("GetDownloadUrlForLayer", in{"layerDigest": digest(layer)})
	got = s.must("BatchCheckLayerAvailability", in{"layerDigests": []string{digest(layer)}})
	s.expect(at(t, got, "layers", 0, "layerAvailability"), "AVAILABLE")
}

// TestLostImage: so it is with a lost manifest, by whatever name. It is listed, and
// can be put again or deleted.
func TestLostImage(t *testing.T) {
	s, _, manifest, index := lossWorld(t)
	for _, image := range []struct{ tag, manifest string }{{"v1", manifest}, {"all", index}} {
		id := digest([]byte(image.manifest))
		s.lose("manifests", id)
		for _, name := range []map[string]string{{"imageTag": image.tag}, {"imageDigest": id}, {"imageTag": image.tag, "imageDigest": id}} {
			s.refused("ServerException", "BatchGetImage", in{"imageIds": []any{name}})
			s.refused("ServerException", "DescribeImages", in{"imageIds": []any{name}})
		}
		s.refused("ServerException", "DescribeImages", in{})
		s.refused("ImageNotFoundException", "DescribeImages", in{"imageIds": []any{map[string]string{"imageTag": "v9"}}})
		s.expect(len(s.must("ListImages", in{})["imageIds"].([]any)), 2)
		s.must("PutImage", in{"imageTag": image.tag, "imageManifest": image.manifest})
		got := s.must("BatchGetImage", in{"imageIds": []any{map[string]string{"imageTag": image.tag}}})
		s.expect(at(t, got, "images", 0, "imageManifest"), image.manifest)
		s.expect(len(s.must("DescribeImages", in{})["imageDetails"].([]any)), 2)
	}

	id := digest([]byte(manifest))
	s.must("BatchDeleteImage", in{"imageIds": []any{map[string]string{"imageTag": "v1"}}}) // the index names it
	s.lose("manifests", id)
	s.refused("ServerException", "BatchGetImage", in{"imageIds": []any{map[string]string{"imageDigest": id}}})
	s.must("BatchDeleteImage", in{"imageIds": []any{map[string]string{"imageTag": "all"}}})

	s.must("PutImage", in{"imageTag": "v1", "imageManifest": manifest})
	s.must("PutImage", in{"imageTag": "v2", "imageManifest": manifest})
	s.lose("manifests", id)
	got := s.must("BatchDeleteImage", in{"imageIds": []any{map[string]string{"imageTag": "v1"}, map[string]string{"imageTag": "v2", "imageDigest": noSuch}}})
	s.expect(at(t, got, "failures", 0, "failureCode"), "ImageTagDoesNotMatchDigest")
	s.expect(s.must("ListImages", in{})["imageIds"], []any{map[string]any{"imageDigest": id, "imageTag": "v2"}})
	s.must("BatchDeleteImage", in{"imageIds": []any{map[string]string{"imageTag": "v2"}}})
	s.expect(len(s.must("DescribeImages", in{})["imageDetails"].([]any)), 0)
}

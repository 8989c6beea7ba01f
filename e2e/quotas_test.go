// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// TestQuotasAreTold: who has as much as a tenant may have is told so in the words
// of Lambda, of ECR and of the registry, and the operator by the metrics and by
// thaw tenant show.
func TestQuotasAreTold(t *testing.T) {
	w := newWorld(t, append([]string{"--max-functions", "1", "--max-repositories", "1"}, withAdmin...)...)
	ctx := t.Context()
	ref := w.push("probe:1", "probe:v1")
	client := w.create(ctx, "one", ref)

	_, err := client.CreateFunction(ctx, &lambda.CreateFunctionInput{FunctionName: aws.String("two"), PackageType: types.PackageTypeImage,
		Code: &types.FunctionCode{ImageUri: &ref}, Role: aws.String("arn:aws:iam::000000000000:role/test")})
	if _, ok := errors.AsType[*types.CodeStorageExceededException](err); !ok || !strings.Contains(err.Error(), "as many functions as it may have, 1") {
		t.Errorf("a second function: %v", err)
	}
	out, err := w.try("/usr/bin/aws", "--endpoint-url", w.Endpoint, "ecr", "create-repository", "--repository-name", "two")
	if err == nil || !strings.Contains(out, "LimitExceededException") || !strings.Contains(out, "as many repositories as it may have, 1") {
		t.Errorf("a second repository: %v, %s", err, out)
	}
	out, err = w.try("skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "--src-creds", w.creds.AccessKey+":"+w.creds.Secret,
		"--dest-creds", w.creds.AccessKey+":"+w.creds.Secret, "docker://"+ref, "docker://"+w.Registry()+"/two:v1")
	if err == nil || !strings.Contains(out, "denied: account") {
		t.Errorf("a push to a second repository: %v, %s", err, out)
	}

	metrics := w.metrics()
	for _, line := range []string{
		`thaw_quota_limit{quota="functions"} 1`, `thaw_quota_most{quota="functions"} 1`, `thaw_quota_refused_total{quota="functions"} 1`,
		`thaw_quota_most{quota="repositories"} 1`, `thaw_quota_most{quota="images"} 1`, `thaw_quota_most{quota="tags"} 1`,
		`thaw_quota_most{quota="uploads"} 0`, `thaw_quota_limit{quota="log-bytes"} 1.073741824e+10`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
	out, err = w.Thaw(ctx, "tenant", "show", "default")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range [][]string{{"functions", "1", "1"}, {"repositories", "1", "1"}, {"images", "1", "100000"}} {
		found := false
		for line := range strings.Lines(out) {
			fields := strings.Fields(line)
			found = found || len(fields) == 3 && fields[0] == want[0] && fields[1] == want[1] && fields[2] == want[2]
		}
		if !found {
			t.Errorf("thaw tenant show lacks %v:\n%s", want, out)
		}
	}
	if strings.Contains(out, w.creds.Secret) {
		t.Error("thaw tenant show tells the secret")
	}
}

// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/invoke/control/controltest"
	"thaw.dev/thaw/tenant"
)

const functions = "/2015-03-31/functions"

// create is the body of a good CreateFunction with more members.
func create(members string) string {
	if members != "" {
		members = "," + members
	}
	return `{"FunctionName":"new","PackageType":"Image","Role":"` + role + `","Code":{"ImageUri":"127.0.0.1:5000/app:1"}` + members + `}`
}

func TestBadInputs(t *testing.T) {
	s := newServer(t)
	s.ready(t, "f")
	s.images.Refuse(s.alice.ID, "denied", thaw.Errorf("", thaw.Denied, "no"))
	s.images.Refuse(s.alice.ID, "away", thaw.Errorf("", thaw.Unavailable, "no route"))
	long := strings.Repeat("a", 65)
	post := func(body string) ask { return ask{method: "POST", path: functions, body: body} }
	configure := func(body string) ask {
		return ask{method: "PUT", path: functions + "/f/configuration", body: body}
	}
	code := func(body string) ask { return ask{method: "PUT", path: functions + "/f/code", body: body} }
	invoke := func(body string, header ...string) ask {
		q := ask{method: "POST", path: functions + "/f/invocations", body: body, header: map[string]string{}}
		for i := 0; i < len(header); i += 2 {
			q.header[header[i]] = header[i+1]
		}
		return q
	}
	for _, test := range []struct {
		name    string
		ask     ask
		status  int
		problem string
		message string // a part of it
	}{
		{"no JSON", post("{"), 400, "InvalidRequestContentException", "Could not parse request body into json"},
		{"no body", post(""), 400, "InvalidRequestContentException", "Could not parse request body into json"},
		{"wrong type", post(create(`"Timeout":"long"`)), 400, "SerializationException", "'Timeout'"},
		{"fraction", post(create(`"MemorySize":128.5`)), 400, "SerializationException", "'MemorySize'"},
		{"name missing", post(strings.Replace(create(""), `"new"`, `""`, 1)), 400, "ValidationException", "Value '' at 'functionName'"},
		{"name long", post(strings.Replace(create(""), "new", long, 1)), 400, "ValidationException", "Member must have length less than or equal to 64"},
		{"name with version", post(strings.Replace(create(""), "new", "new:1", 1)), 400, "InvalidParameterValueException", "without a version"},
		{"name taken", post(strings.Replace(create(""), "new", "f", 1)), 409, "ResourceConflictException", "Function already exist: f"},
		{"role missing", post(strings.Replace(create(""), role, "", 1)), 400, "ValidationException", "'role'"},
		{"timeout", post(create(`"Timeout":901`)), 400, "ValidationException", "Value '901' at 'timeout'"},
		{"memory", post(create(`"MemorySize":1`)), 400, "ValidationException", "Value '1' at 'memorySize'"},
		{"package", post(strings.Replace(create(""), `"Image"`, `"Zip"`, 1)), 400, "InvalidParameterValueException", "PackageType must be Image"},
		{"package missing", post(strings.Replace(create(""), `"PackageType":"Image",`, "", 1)), 400, "InvalidParameterValueException", "PackageType must be Image"},
		{"archive", post(`{"FunctionName":"new","Role":"` + role + `","Code":{"ZipFile":"UEs="}}`), 400, "InvalidParameterValueException", "container images only"},
		{"no image", post(strings.Replace(create(""), "127.0.0.1:5000/app:1", "", 1)), 400, "InvalidParameterValueException", "Please provide a source for function code"},
		{"image absent", post(strings.Replace(create(""), "app:1", "none:1", 1)), 400, "InvalidParameterValueException", "Source image 127.0.0.1:5000/none:1 does not exist. Provide a valid source image."},
		{"image denied", post(strings.Replace(create(""), "127.0.0.1:5000/app:1", "denied", 1)), 403, "AccessDeniedException", "permission"},
		{"registry away", post(strings.Replace(create(""), "127.0.0.1:5000/app:1", "away", 1)), 503, "ServiceUnavailableException", "can't be read now"},
		{"publish", post(create(`"Publish":true`)), 400, "InvalidParameterValueException", "keeps no versions"},
		{"runtime", post(create(`"Runtime":"python3.12"`)), 400, "InvalidParameterValueException", "Runtime, Handler or Layers"},
		{"vpc", post(create(`"VpcConfig":{"SubnetIds":["s"]}`)), 400, "InvalidParameterValueException", "VpcConfig"},
		{"dead letters", post(create(`"DeadLetterConfig":{"TargetArn":"arn:aws:sqs:us-east-1:1:q"}`)), 400, "InvalidParameterValueException", "DeadLetterConfig"},
		{"kms", post(create(`"KMSKeyArn":"arn:aws:kms:x"`)), 400, "InvalidParameterValueException", "KMSKeyArn"},
		{"snap", post(create(`"SnapStart":{"ApplyOn":"PublishedVersions"}`)), 400, "InvalidParameterValueException", "SnapStart"},
		{"file system", post(create(`"FileSystemConfigs":[{}]`)), 400, "InvalidParameterValueException", "FileSystemConfigs"},
		{"signing", post(create(`"CodeSigningConfigArn":"arn"`)), 400, "InvalidParameterValueException", "CodeSigningConfigArn"},
		{"capacity", post(create(`"CapacityProviderConfig":{"a":1}`)), 400, "InvalidParameterValueException", "CapacityProviderConfig"},
		{"durable", post(create(`"DurableConfig":{"a":1}`)), 400, "InvalidParameterValueException", "DurableConfig"},
		{"tenancy", post(create(`"TenancyConfig":{"TenantIsolationMode":"PER_TENANT"}`)), 400, "InvalidParameterValueException", "TenancyConfig"},
		{"arm", post(create(`"Architectures":["arm64"]`)), 400, "InvalidParameterValueException", "'arm64'"},
		{"tags", post(create(`"Tags":{"aws:x":"y"}`)), 400, "InvalidParameterValueException", "reserved for internal use"},
		{"reserved variable", post(create(`"Environment":{"Variables":{"AWS_REGION":"x"}}`)), 400, "InvalidParameterValueException", "Reserved keys used in this request: AWS_REGION"},

		{"configure revision", configure(`{"RevisionId":"00000000-0000-0000-0000-000000000000"}`), 412, "PreconditionFailedException", "The Revision Id provided does not match"},
		{"configure memory", configure(`{"MemorySize":99999}`), 400, "ValidationException", "'memorySize'"},
		{"configure nothing there", ask{method: "PUT", path: functions + "/none/configuration", body: "{}"}, 404, "ResourceNotFoundException", "function:none"},
		{"code revision", code(`{"ImageUri":"127.0.0.1:5000/app:1","RevisionId":"x"}`), 412, "PreconditionFailedException", "Revision Id"},
		{"code absent", code(`{"ImageUri":"none"}`), 400, "InvalidParameterValueException", "does not exist"},
		{"code publish", code(`{"ImageUri":"127.0.0.1:5000/app:1","Publish":true}`), 400, "InvalidParameterValueException", "keeps no versions"},
		{"code archive", code(`{"S3Bucket":"b","S3Key":"k"}`), 400, "InvalidParameterValueException", "container images only"},

		{"get absent", ask{method: "GET", path: functions + "/none"}, 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:"},
		{"get version", ask{method: "GET", path: functions + "/f?Qualifier=1"}, 404, "ResourceNotFoundException", "function:f:1"},
		{"get bad name", ask{method: "GET", path: functions + "/a%20b"}, 400, "ValidationException", "Value 'a b' at 'functionName'"},
		{"delete absent", ask{method: "DELETE", path: functions + "/none"}, 404, "ResourceNotFoundException", "Function not found"},
		{"delete latest", ask{method: "DELETE", path: functions + "/f?Qualifier=$LATEST"}, 400, "InvalidParameterValueException", "cannot be deleted"},
		{"list items", ask{method: "GET", path: functions + "?MaxItems=0"}, 400, "ValidationException", "'maxItems'"},
		{"list many", ask{method: "GET", path: functions + "?MaxItems=10001"}, 400, "ValidationException", "'maxItems'"},
		{"list no number", ask{method: "GET", path: functions + "?MaxItems=x"}, 400, "SerializationException", "'MaxItems'"},
		{"list marker", ask{method: "GET", path: functions + "?Marker=!!"}, 400, "InvalidParameterValueException", "Invalid pagination token"},
		{"list version", ask{method: "GET", path: functions + "?FunctionVersion=1"}, 400, "ValidationException", "'functionVersion'"},
		{"list region", ask{method: "GET", path: functions + "?MasterRegion=us-east-1"}, 400, "InvalidParameterValueException", "FunctionVersion must be ALL"},

		{"invoke absent", ask{method: "POST", path: functions + "/none/invocations", body: "{}"}, 404, "ResourceNotFoundException", "function:none"},
		{"invoke alias", ask{method: "POST", path: functions + "/f/invocations?Qualifier=prod", body: "{}"}, 404, "ResourceNotFoundException", "function:f:prod"},
		{"invoke no JSON", invoke("hello"), 400, "InvalidRequestContentException", "Could not parse request body into json"},
		{"invoke no UTF-8", invoke("\"\xff\""), 400, "InvalidRequestContentException", "UTF-8"},
		{"invoke large", invoke(`"` + strings.Repeat("x", 6<<20) + `"`), 413, "RequestTooLargeException", "Request must be smaller than 6291456 bytes for the InvokeFunction operation"},
		{"invoke larger than the body limit", invoke(`"` + strings.Repeat("x", 20<<20) + `"`), 413, "RequestTooLargeException", ""},
		{"invoke event", invoke("{}", "X-Amz-Invocation-Type", "Event"), 400, "InvalidParameterValueException", "InvocationType Event is not supported"},
		{"invoke type", invoke("{}", "X-Amz-Invocation-Type", "Later"), 400, "ValidationException", "'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]"},
		{"invoke log", invoke("{}", "X-Amz-Log-Type", "Head"), 400, "ValidationException", "'logType'"},
		{"invoke context", invoke("{}", "X-Amz-Client-Context", "%"), 400, "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object."},
		{"invoke context no JSON", invoke("{}", "X-Amz-Client-Context", base64.StdEncoding.EncodeToString([]byte("x"))), 400, "InvalidRequestContentException", "Client context"},
		{"invoke context long", invoke("{}", "X-Amz-Client-Context", strings.Repeat("A", 3584)), 400, "InvalidParameterValueException", "3583"},
		{"invoke tenant", invoke("{}", "X-Amz-Tenant-Id", "x"), 400, "InvalidParameterValueException", "X-Amz-Tenant-Id"},
		{"invoke throttled", invoke(`{"refuse":"throttled"}`), 429, "TooManyRequestsException", "Rate Exceeded."},
		{"invoke unavailable", invoke(`{"refuse":"unavailable"}`), 503, "ServiceUnavailableException", ""},
		{"invoke internal", invoke(`{"refuse":"internal"}`), 500, "ServiceException", ""},

		{"tag nothing", ask{method: "POST", path: "/2017-03-31/tags/f", body: "{}"}, 400, "InvalidParameterValueException", "Tags"},
		{"tag absent", ask{method: "POST", path: "/2017-03-31/tags/none", body: `{"Tags":{"a":"b"}}`}, 404, "ResourceNotFoundException", "none"},
		{"untag nothing", ask{method: "DELETE", path: "/2017-03-31/tags/f"}, 400, "InvalidParameterValueException", "tagKeys"},
		{"versions of nothing", ask{method: "GET", path: functions + "/none/versions"}, 404, "ResourceNotFoundException", "none"},
		{"aliases of nothing", ask{method: "GET", path: functions + "/none/aliases"}, 404, "ResourceNotFoundException", "none"},
		{"concurrency of nothing", ask{method: "GET", path: "/2019-09-30/functions/none/concurrency"}, 404, "ResourceNotFoundException", "none"},

		{"unsupported", ask{method: "POST", path: functions + "/f/versions", body: "{}"}, 501, "NotImplementedException", "PublishVersion"},
		{"unsupported stream", ask{method: "POST", path: "/2021-11-15/functions/f/response-streaming-invocations"}, 501, "NotImplementedException", "InvokeWithResponseStream"},
		{"unsupported mapping", ask{method: "GET", path: "/2015-03-31/event-source-mappings/"}, 501, "NotImplementedException", "ListEventSourceMappings"},
		{"unknown path", ask{method: "GET", path: "/2015-03-31/nothing"}, 404, "UnknownOperationException", "GET /2015-03-31/nothing"},
		{"unknown method", ask{method: "PATCH", path: functions + "/f"}, 404, "UnknownOperationException", "PATCH"},
		{"root", ask{method: "GET", path: "/"}, 404, "UnknownOperationException", ""},
		{"path with dots", ask{method: "GET", path: functions + "/../functions/f"}, 404, "UnknownOperationException", ""},
		{"empty name", ask{method: "GET", path: functions + "//configuration"}, 404, "UnknownOperationException", ""},

		{"unsigned", ask{method: "GET", path: functions, unsigned: true}, 403, "MissingAuthenticationTokenException", "Missing Authentication Token"},
		{"unsigned unknown", ask{method: "GET", path: "/x", unsigned: true}, 403, "MissingAuthenticationTokenException", "Missing Authentication Token"},
		{"wrong key", ask{method: "GET", path: functions, as: tenant.Account{AccessKeyID: "AKIANONE", Secret: "x"}}, 403, "UnrecognizedClientException", "The security token included in the request is invalid."},
		{"wrong secret", ask{method: "GET", path: functions, as: tenant.Account{AccessKeyID: s.alice.AccessKeyID, Secret: s.bob.Secret}}, 403, "InvalidSignatureException", "does not match the signature you provided"},
		{"other service", ask{method: "GET", path: functions, service: "ecr"}, 403, "InvalidSignatureException", "Credential should be scoped to correct service: 'lambda'."},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := s.do(t, test.ask)
			if a.status != test.status || a.problem != test.problem || !strings.Contains(a.message, test.message) || a.message == "" {
				t.Errorf("got %d %s: %s\nwant %d %s: ...%s...", a.status, a.problem, a.body, test.status, test.problem, test.message)
			}
			if strings.Contains(a.body, "secret of the host") {
				t.Error("the answer shows what is not the tenant's")
			}
			if throttled := a.status == http.StatusTooManyRequests; throttled != (a.header.Get("Retry-After") != "") ||
				throttled != strings.Contains(a.body, `"Reason":"ConcurrentInvocationLimitExceeded"`) {
				t.Errorf("Retry-After %q, %s", a.header.Get("Retry-After"), a.body)
			}
			if wantType := map[bool]string{true: `"Type":"Service"`, false: `"Type":"User"`}[a.status >= 500]; !strings.Contains(a.body, wantType) {
				t.Errorf("%s lacks %s", a.body, wantType)
			}
		})
	}
	if a := s.do(t, ask{method: "GET", path: functions}); strings.Count(a.body, `"FunctionName"`) != 1 {
		t.Errorf("a refused request left something: %s", a.body)
	}
}

// TestOtherTenantsFunctionsDoNotExist asks for alice's function as bob, by
// every operation and every form of its name.
func TestOtherTenantsFunctionsDoNotExist(t *testing.T) {
	s := newServer(t)
	s.ready(t, "f")
	s.images.Push(s.bob.ID, "127.0.0.1:5000/app:1", controltest.Image{Content: "bob's"})
	arn := "arn:aws:lambda:us-east-1:" + string(s.alice.ID) + ":function:f"
	for _, name := range []string{"f", arn, strings.ReplaceAll(arn, ":", "%3A"), string(s.alice.ID) + ":function:f"} {
		for _, q := range []ask{
			{method: "GET", path: functions + "/" + name},
			{method: "GET", path: functions + "/" + name + "/configuration"},
			{method: "PUT", path: functions + "/" + name + "/configuration", body: "{}"},
			{method: "PUT", path: functions + "/" + name + "/code", body: `{"ImageUri":"127.0.0.1:5000/app:1"}`},
			{method: "POST", path: functions + "/" + name + "/invocations", body: "{}"},
			{method: "POST", path: functions + "/" + name + "/invocations", body: "{}", header: map[string]string{"X-Amz-Invocation-Type": "DryRun"}},
			{method: "GET", path: functions + "/" + name + "/versions"},
			{method: "GET", path: functions + "/" + name + "/aliases"},
			{method: "GET", path: "/2019-09-30/functions/" + name + "/concurrency"},
			{method: "GET", path: "/2017-03-31/tags/" + name},
			{method: "POST", path: "/2017-03-31/tags/" + name, body: `{"Tags":{"a":"b"}}`},
			{method: "DELETE", path: "/2017-03-31/tags/" + name + "?tagKeys=a"},
			{method: "DELETE", path: functions + "/" + name},
		} {
			q.as = s.bob
			if a := s.do(t, q); a.status != 404 || a.problem != "ResourceNotFoundException" {
				t.Errorf("%s %s: %d %s", q.method, q.path, a.status, a.body)
			}
		}
	}
	if a := s.do(t, ask{method: "GET", path: functions, as: s.bob}); a.body != `{"Functions":[]}` {
		t.Errorf("bob's list: %s", a.body)
	}
	if s.invoker.count != 0 {
		t.Error("something was invoked")
	}
	if a := s.do(t, ask{method: "GET", path: functions + "/f"}); a.status != 200 {
		t.Errorf("alice's function: %d", a.status)
	}
}

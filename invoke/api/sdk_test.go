// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"thaw.dev/thaw/invoke/control/controltest"
)

// quick makes the SDK's waiters ask more often than once a second.
const quick = 10 * time.Millisecond

// TestGoSDK drives a function's whole life with the Go SDK, its waiters and
// its paginator.
func TestGoSDK(t *testing.T) {
	s := newServer(t)
	ctx, client := t.Context(), s.sdk(s.alice)
	digest := s.images.Push(s.alice.ID, "127.0.0.1:5000/app:1", controltest.Image{Content: "one"})
	created, err := client.CreateFunction(ctx, &lambda.CreateFunctionInput{FunctionName: aws.String("f"), Role: aws.String(role),
		PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: aws.String("127.0.0.1:5000/app:1")},
		Timeout: aws.Int32(30), MemorySize: aws.Int32(512), Description: aws.String("déjà <vu>"),
		Environment:      &types.Environment{Variables: map[string]string{"KEY": "value"}},
		ImageConfig:      &types.ImageConfig{EntryPoint: []string{"/e"}, Command: []string{"a", "b"}, WorkingDirectory: aws.String("/w")},
		EphemeralStorage: &types.EphemeralStorage{Size: aws.Int32(1024)}, Architectures: []types.Architecture{types.ArchitectureX8664},
		LoggingConfig: &types.LoggingConfig{LogFormat: types.LogFormatJson}, TracingConfig: &types.TracingConfig{Mode: types.TracingModeActive},
		Tags: map[string]string{"team": "a"}})
	if err != nil {
		t.Fatal(err)
	}
	arn := "arn:aws:lambda:us-east-1:" + string(s.alice.ID) + ":function:f"
	if created.State != types.StatePending || created.StateReasonCode != types.StateReasonCodeCreating || *created.FunctionArn != arn {
		t.Errorf("created: %+v", created)
	}
	active, err := lambda.NewFunctionActiveV2Waiter(client, func(o *lambda.FunctionActiveV2WaiterOptions) { o.MinDelay, o.MaxDelay = quick, quick }).
		WaitForOutput(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("f")}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	c := active.Configuration
	if *c.Timeout != 30 || *c.MemorySize != 512 || *c.Description != "déjà <vu>" || c.Environment.Variables["KEY"] != "value" ||
		fmt.Sprint(c.ImageConfigResponse.ImageConfig.EntryPoint, c.ImageConfigResponse.ImageConfig.Command) != "[/e] [a b]" ||
		*c.EphemeralStorage.Size != 1024 || c.Architectures[0] != types.ArchitectureX8664 || c.PackageType != types.PackageTypeImage ||
		*c.Version != "$LATEST" || "sha256:"+*c.CodeSha256 != digest || c.LoggingConfig.LogFormat != types.LogFormatJson ||
		*c.LoggingConfig.LogGroup != "/aws/lambda/f" || c.TracingConfig.Mode != types.TracingModeActive || active.Tags["team"] != "a" ||
		*active.Code.ImageUri != "127.0.0.1:5000/app:1" || *active.Code.ResolvedImageUri != "127.0.0.1:5000/app@"+digest || *active.Code.RepositoryType != "ECR" {
		t.Errorf("got %+v, %+v, %+v", c, active.Code, active.Tags)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000-0700", *c.LastModified); err != nil {
		t.Error(err)
	}

	invoked, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String(arn), Payload: []byte(`{"a":1}`), LogType: types.LogTypeTail})
	if err != nil || invoked.StatusCode != 200 || string(invoked.Payload) != `{"a":1}` || *invoked.ExecutedVersion != "$LATEST" || invoked.LogResult == nil || invoked.FunctionError != nil {
		t.Errorf("invoked: %+v, %v", invoked, err)
	}
	dry, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("f"), InvocationType: types.InvocationTypeDryRun})
	if err != nil || dry.StatusCode != 204 {
		t.Errorf("dry run: %+v, %v", dry, err)
	}
	thrown, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(`{"throw":"x"}`)})
	if err != nil || aws.ToString(thrown.FunctionError) != "Unhandled" {
		t.Errorf("thrown: %+v, %v", thrown, err)
	}

	s.images.Push(s.alice.ID, "127.0.0.1:5000/app:2", controltest.Image{Content: "two"})
	updated, err := client.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"),
		ImageUri: aws.String("127.0.0.1:5000/app:2"), RevisionId: c.RevisionId})
	if err != nil || updated.LastUpdateStatus != types.LastUpdateStatusInProgress || *updated.CodeSha256 == *c.CodeSha256 {
		t.Fatalf("updated: %+v, %v", updated, err)
	}
	err = lambda.NewFunctionUpdatedV2Waiter(client, func(o *lambda.FunctionUpdatedV2WaiterOptions) { o.MinDelay, o.MaxDelay = quick, quick }).
		Wait(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("f")}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	configured, err := client.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), MemorySize: aws.Int32(256)})
	if err != nil || *configured.MemorySize != 256 || *configured.Timeout != 30 || configured.LastUpdateStatus != types.LastUpdateStatusSuccessful {
		t.Errorf("configured: %+v, %v", configured, err)
	}
	checkTagsWithSDK(t, s, client, arn)

	if _, err := client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Error(err)
	}
	_, err = client.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("f")})
	if gone, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok || *gone.Type != "User" || *gone.Message != "Function not found: "+arn {
		t.Errorf("after the end: %v", err)
	}
}

func checkTagsWithSDK(t *testing.T, s *server, client *lambda.Client, arn string) {
	t.Helper()
	ctx := t.Context()
	// These keys sort differently escaped and plain, which clients disagree on.
	tags := map[string]string{"a:": "1", "a0": "2", "a b": "3"}
	if _, err := client.TagResource(ctx, &lambda.TagResourceInput{Resource: &arn, Tags: tags}); err != nil {
		t.Error(err)
	}
	if _, err := client.UntagResource(ctx, &lambda.UntagResourceInput{Resource: &arn, TagKeys: []string{"a:", "a0"}}); err != nil {
		t.Error(err)
	}
	listed, err := client.ListTags(ctx, &lambda.ListTagsInput{Resource: &arn})
	if err != nil || fmt.Sprint(listed.Tags) != "map[a b:3 team:a]" {
		t.Errorf("tags: %+v, %v", listed, err)
	}
	settings, err := client.GetAccountSettings(ctx, &lambda.GetAccountSettingsInput{})
	if err != nil || settings.AccountUsage.FunctionCount != 1 || settings.AccountLimit.ConcurrentExecutions != 1000 {
		t.Errorf("settings: %+v, %v", settings, err)
	}
	versions, err := client.ListVersionsByFunction(ctx, &lambda.ListVersionsByFunctionInput{FunctionName: &arn})
	if err != nil || len(versions.Versions) != 1 || *versions.Versions[0].FunctionArn != arn+":$LATEST" {
		t.Errorf("versions: %+v, %v", versions, err)
	}
	aliases, err := client.ListAliases(ctx, &lambda.ListAliasesInput{FunctionName: &arn})
	if err != nil || len(aliases.Aliases) != 0 {
		t.Errorf("aliases: %+v, %v", aliases, err)
	}
	if c, err := client.GetFunctionConcurrency(ctx, &lambda.GetFunctionConcurrencyInput{FunctionName: &arn}); err != nil || c.ReservedConcurrentExecutions != nil {
		t.Errorf("concurrency: %+v, %v", c, err)
	}
	for i := range 5 {
		s.ready(t, fmt.Sprintf("more-%d", i))
	}
	var names []string
	for pages := lambda.NewListFunctionsPaginator(client, &lambda.ListFunctionsInput{MaxItems: aws.Int32(4)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range page.Functions {
			names = append(names, *f.FunctionName)
		}
	}
	if strings.Join(names, " ") != "f more-0 more-1 more-2 more-3 more-4" {
		t.Errorf("listed %v", names)
	}
}

// TestErrorsAreTypedForTheSDK checks that the SDK makes its own types of our
// errors, each with its message.
func TestErrorsAreTypedForTheSDK(t *testing.T) {
	s := newServer(t)
	s.ready(t, "f")
	client := s.sdk(s.alice)
	invoke := func(payload string) error {
		_, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(payload)})
		return err
	}
	create := func(image string) error {
		_, err := client.CreateFunction(t.Context(), &lambda.CreateFunctionInput{FunctionName: aws.String("f"), Role: aws.String(role),
			PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: aws.String(image)}})
		return err
	}
	configure := func(revision string) error {
		_, err := client.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), RevisionId: &revision})
		return err
	}
	_, absent := client.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ImageUri: aws.String("none")})
	throttled := invoke(`{"refuse":"throttled"}`)
	for _, test := range []struct {
		err  error
		want error
	}{
		{invoke("x"), &types.InvalidRequestContentException{}},
		{throttled, &types.TooManyRequestsException{}},
		{invoke(`{"refuse":"internal"}`), &types.ServiceException{}},
		{invoke(`"` + strings.Repeat("x", 6<<20) + `"`), &types.RequestTooLargeException{}},
		{create("127.0.0.1:5000/app:1"), &types.ResourceConflictException{}},
		{absent, &types.InvalidParameterValueException{}},
		{configure("x"), &types.PreconditionFailedException{}},
	} {
		target := reflect.New(reflect.TypeOf(test.want)).Interface()
		if !errors.As(test.err, target) {
			t.Errorf("got %v, want a %T", test.err, test.want)
			continue
		}
		if e, ok := errors.AsType[smithy.APIError](test.err); !ok || e.ErrorMessage() == "" {
			t.Errorf("%T has no message", test.want)
		}
	}
	if e, ok := errors.AsType[*types.TooManyRequestsException](throttled); !ok || aws.ToString(e.RetryAfterSeconds) != "1" || e.Reason != types.ThrottleReasonConcurrentInvocationLimitExceeded {
		t.Errorf("%+v", e)
	}
}

// TestEveryOperationIsKnown holds our list against the SDK's methods.
func TestEveryOperationIsKnown(t *testing.T) {
	s := newServer(t)
	client := reflect.ValueOf(s.sdk(s.alice))
	known := 0
	for i := range client.NumMethod() {
		name := client.Type().Method(i).Name
		method := client.Method(i)
		if method.Type().NumIn() != 3 || method.Type().NumOut() != 2 {
			continue // Options
		}
		known++
		input := reflect.New(method.Type().In(1).Elem())
		fill(input.Elem())
		out := method.Call([]reflect.Value{reflect.ValueOf(t.Context()), input})
		err, _ := out[1].Interface().(error)
		e, ok := errors.AsType[smithy.APIError](err)
		if err != nil && (!ok || e.ErrorCode() == "UnknownOperationException") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if known < 80 {
		t.Errorf("only %d operations were tried", known)
	}
}

// fill sets what an input requires, and more, to something short.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Field(i); field.CanSet() {
				fill(field)
			}
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.String {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0))
		} else if v.Type().Elem().Kind() != reflect.Uint8 {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	case reflect.Interface:
		if body := reflect.ValueOf(strings.NewReader("x")); body.Type().Implements(v.Type()) {
			v.Set(body) // the body of InvokeAsync
		}
	}
}

// TestOurOwnHeaders checks what the project's command line reads.
func TestOurOwnHeaders(t *testing.T) {
	s := newServer(t)
	s.ready(t, "f")
	release := s.images.Hold()
	defer release()
	if a := s.do(t, ask{method: "PUT", path: functions + "/f/code", body: `{"ImageUri":"127.0.0.1:5000/app:1"}`}); a.status != 200 {
		t.Fatal(a.body)
	}
	for {
		a := s.do(t, ask{method: "GET", path: functions + "/f"})
		if len(a.header.Get("X-Thaw-Image")) != 64 || a.header.Get("X-Thaw-Progress") == "" {
			t.Fatalf("headers %v", a.header)
		}
		// Nothing of which chunks were stored before: others may have stored them.
		if progress := a.header.Get("X-Thaw-Progress"); strings.Contains(progress, `"ingest"`) {
			if progress != `{"Stage":"ingest","DoneBytes":1,"TotalBytes":2,"Chunks":3}` {
				t.Errorf("progress %s", progress)
			}
			return
		}
		time.Sleep(time.Millisecond)
	}
}

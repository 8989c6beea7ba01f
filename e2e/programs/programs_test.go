// SPDX-License-Identifier: Apache-2.0

// Package programs runs real programs as functions: browsers, office suites,
// virtual machines of languages. What they expect of the world around them is
// what the sandbox has to offer. README.md says how to add one.
package programs

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw.dev/thaw/internal/livetest"
	"thaw.dev/thaw/internal/testkit"
)

// program is a program.json.
type program struct {
	Packages    []string
	EntryPoint  []string
	Environment map[string]string
	Memory      int32
	Timeout     int32
	Calls       []struct {
		Event  json.RawMessage
		Answer any
	}
}

func TestPrograms(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.RequireFUSE(t)
	testkit.RequireTool(t, "mmdebstrap")
	programs := load(t)
	server, err := livetest.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the server printed:\n%s", server.Log)
		}
	})
	creds, err := server.Credentials(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	client := server.Lambda(creds)
	create(t, client, push(t, server, creds, image(t, programs)))
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		p := programs[name]
		t.Run(name, func(t *testing.T) {
			become(t, client, name, p)
			for _, call := range p.Calls {
				out, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: function, Payload: call.Event, LogType: types.LogTypeTail})
				if err != nil {
					t.Fatal(err)
				}
				var answer any
				err = json.Unmarshal(out.Payload, &answer)
				if err == nil && out.FunctionError == nil && holds(answer, call.Answer) {
					continue
				}
				lines, _ := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
				t.Errorf("%s answered %.2000s (%s), want %v; its log ends with:\n%s", call.Event, out.Payload, aws.ToString(out.FunctionError), call.Answer, lines)
			}
		})
	}
}

// load reads the program.json of each folder here.
func load(t *testing.T) map[string]program {
	t.Helper()
	files, err := filepath.Glob("*/program.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no programs: %v", err)
	}
	programs := map[string]program{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var p program
		if err := json.Unmarshal(text, &p); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(p.Calls) == 0 {
			t.Fatalf("%s: calls nothing", file)
		}
		programs[filepath.Dir(file)] = p
	}
	return programs
}

// function is the one function that becomes each program in turn: the image is
// then prepared once.
var function = aws.String("program")

// create makes the function and waits until it is active.
func create(t *testing.T, client *lambda.Client, ref string) {
	t.Helper()
	_, err := client.CreateFunction(t.Context(), &lambda.CreateFunctionInput{
		FunctionName: function, PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: &ref},
		Role: aws.String("arn:aws:iam::000000000000:role/test"),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = lambda.NewFunctionActiveV2Waiter(client).Wait(t.Context(), &lambda.GetFunctionInput{FunctionName: function}, 10*time.Minute,
		func(o *lambda.FunctionActiveV2WaiterOptions) { o.MinDelay, o.MaxDelay = time.Second, time.Second })
	if err != nil {
		t.Fatal(err)
	}
}

// become makes the function run a program from now on.
func become(t *testing.T, client *lambda.Client, name string, p program) {
	t.Helper()
	_, err := client.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{
		FunctionName: function, MemorySize: &p.Memory, Timeout: &p.Timeout,
		Environment: &types.Environment{Variables: p.Environment},
		ImageConfig: &types.ImageConfig{EntryPoint: p.EntryPoint, WorkingDirectory: aws.String("/var/task/" + name)},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = lambda.NewFunctionUpdatedV2Waiter(client).Wait(t.Context(), &lambda.GetFunctionInput{FunctionName: function}, time.Minute,
		func(o *lambda.FunctionUpdatedV2WaiterOptions) { o.MinDelay, o.MaxDelay = time.Second, time.Second })
	if err != nil {
		t.Fatal(err)
	}
}

// holds says whether an answer has all that is wanted of it: the members of
// objects, the elements of lists, strings that match.
func holds(got, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		members, ok := got.(map[string]any)
		for name, value := range want {
			ok = ok && holds(members[name], value)
		}
		return ok
	case []any:
		list, ok := got.([]any)
		ok = ok && len(list) == len(want)
		for i := range want {
			ok = ok && holds(list[i], want[i])
		}
		return ok
	case string:
		text, ok := got.(string)
		return ok && regexp.MustCompile(`^(?s:`+want+`)$`).MatchString(text)
	}
	return got == want
}

func TestHolds(t *testing.T) {
	for _, c := range []struct {
		got, want string
		holds     bool
	}{
		{`{"a": 1, "b": [true, "xyz"]}`, `{"b": [true, "x.z"]}`, true},
		{`{"a": 1}`, `{"a": 2}`, false},
		{`{"a": 1}`, `{"b": 1}`, false},
		{`[1, 2]`, `[1]`, false},
		{`"xyz"`, `"x"`, false},
		{`null`, `{"a": 1}`, false},
	} {
		var got, want any
		if err := json.Unmarshal([]byte(c.got), &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(c.want), &want); err != nil {
			t.Fatal(err)
		}
		if holds(got, want) != c.holds {
			t.Errorf("%s holds %s: not %v", c.got, c.want, c.holds)
		}
	}
}

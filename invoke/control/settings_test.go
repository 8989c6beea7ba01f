// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"slices"
	"strings"
	"testing"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/invoke/control/controltest"
)

func TestSettingsAreValidated(t *testing.T) {
	w := newWorld(t)
	w.images.Push(alice, "image", controltest.Image{})
	many := make([]string, 1501)
	for name, test := range map[string]struct {
		change  control.Change
		problem control.ProblemType
		text    string // "" where the settings are good
	}{
		"defaults":      {},
		"least":         {change: control.Change{TimeoutSeconds: ptr(1), MemoryMB: ptr(128), EphemeralMB: ptr(512)}},
		"most":          {change: control.Change{TimeoutSeconds: ptr(900), MemoryMB: ptr(10240), EphemeralMB: ptr(10240), Description: ptr(strings.Repeat("é", 256))}},
		"timeout 0":     {control.Change{TimeoutSeconds: ptr(0)}, control.FailedValidation, "1 validation error detected: Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		"timeout 901":   {control.Change{TimeoutSeconds: ptr(901)}, control.FailedValidation, "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900"},
		"memory 127":    {control.Change{MemoryMB: ptr(127)}, control.FailedValidation, "Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"},
		"memory 10241":  {control.Change{MemoryMB: ptr(10241)}, control.FailedValidation, "'memorySize' failed to satisfy constraint: Member must have value less than or equal to 10240"},
		"two":           {control.Change{MemoryMB: ptr(1), TimeoutSeconds: ptr(-1)}, control.FailedValidation, "2 validation errors detected: Value '-1' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1; Value '1' at 'memorySize'"},
		"tmp":           {control.Change{EphemeralMB: ptr(511)}, control.FailedValidation, "'ephemeralStorage.size'"},
		"description":   {control.Change{Description: ptr(strings.Repeat("x", 257))}, control.FailedValidation, "Member must have length less than or equal to 256"},
		"role":          {control.Change{Role: ptr("someone")}, control.FailedValidation, "Value 'someone' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::"},
		"variable":      {control.Change{Environment: &map[string]string{"1A": ""}}, control.FailedValidation, "Map keys must satisfy constraint"},
		"reserved":      {control.Change{Environment: &map[string]string{"OK_1": "", "AWS_REGION": "", "_HANDLER": ""}}, control.FailedValidation, "_HANDLER"},
		"reserved only": {control.Change{Environment: &map[string]string{"AWS_REGION": "", "AWS_LAMBDA_RUNTIME_API": ""}}, control.InvalidParameter, "Reserved keys used in this request: AWS_LAMBDA_RUNTIME_API, AWS_REGION"},
		"credentials": {change: control.Change{Environment: &map[string]string{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s",
			"AWS_SESSION_TOKEN": "t", "AWS_ACCESS_KEY": "a"}}},
		"time zone":      {change: control.Change{Environment: &map[string]string{"TZ": "Asia/Tokyo"}}},
		"4 KB":           {change: control.Change{Environment: &map[string]string{"KEY": strings.Repeat("x", 4096-len(`{"KEY":""}`))}}},
		"more than 4 KB": {control.Change{Environment: &map[string]string{"KEY": strings.Repeat("x", 4097-len(`{"KEY":""}`))}}, control.InvalidParameter, "exceeded the 4KB limit"},
		"NUL in env":     {control.Change{Environment: &map[string]string{"KEY": "a\x00b"}}, control.InvalidParameter, "NUL"},
		"NUL in command": {control.Change{ImageConfig: &control.ImageConfig{Command: []string{"a\x00b"}}}, control.InvalidParameter, "NUL"},
		"long argument":  {control.Change{ImageConfig: &control.ImageConfig{EntryPoint: []string{"/p", strings.Repeat("x", 200_000)}}}, control.InvalidParameter, "argument 1 has 200000 bytes"},
		"NUL in dir":     {control.Change{ImageConfig: &control.ImageConfig{WorkingDirectory: "/a\x00"}}, control.InvalidParameter, "NUL"},
		"level of text":  {control.Change{Logging: &control.Logging{ApplicationLogLevel: "WARN"}}, control.InvalidParameter, "only where LogFormat is JSON"},
		"directory":      {control.Change{ImageConfig: &control.ImageConfig{WorkingDirectory: "app"}}, control.InvalidParameter, "absolute path"},
		"long directory": {control.Change{ImageConfig: &control.ImageConfig{WorkingDirectory: "/" + strings.Repeat("x", 1000)}}, control.FailedValidation, "imageConfig.workingDirectory"},
		"command":        {control.Change{ImageConfig: &control.ImageConfig{Command: many}}, control.FailedValidation, "imageConfig.command"},
		"tracing":        {control.Change{Tracing: ptr("Sometimes")}, control.FailedValidation, "Member must satisfy enum value set: [Active, PassThrough]"},
		"log format":     {control.Change{Logging: &control.Logging{LogFormat: "XML"}}, control.FailedValidation, "loggingConfig.logFormat"},
		"log group":      {control.Change{Logging: &control.Logging{LogGroup: "a b"}}, control.FailedValidation, "loggingConfig.logGroup"},
		"log":            {change: control.Change{Logging: &control.Logging{LogFormat: "JSON", SystemLogLevel: "WARN", ApplicationLogLevel: "TRACE", LogGroup: "/mine"}}},
	} {
		t.Run(name, func(t *testing.T) {
			function := strings.ReplaceAll(name, " ", "-")
			if test.change.Role == nil {
				test.change.Role = ptr(role)
			}
			_, err := w.Create(t.Context(), alice, control.NewFunction{Name: function, ImageURI: "image", Change: test.change})
			if test.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantProblem(t, err, thaw.Invalid, test.problem, test.text)
			if _, _, err := w.Get(t.Context(), alice, function, ""); thaw.KindOf(err) != thaw.NotFound {
				t.Errorf("something was stored: %v", err)
			}
		})
	}
}

func TestArchitectures(t *testing.T) {
	w := newWorld(t)
	w.images.Push(alice, "image", controltest.Image{})
	for _, test := range []struct {
		asked   []string
		problem control.ProblemType
	}{
		{nil, ""}, {[]string{"x86_64"}, ""}, {[]string{"arm64"}, control.InvalidParameter},
		{[]string{"mips"}, control.FailedValidation}, {[]string{"x86_64", "arm64"}, control.FailedValidation},
	} {
		_, err := w.Create(t.Context(), alice, control.NewFunction{Name: "f", ImageURI: "image", Architectures: test.asked, Change: control.Change{Role: ptr(role)}})
		if test.problem == "" {
			if err != nil {
				t.Errorf("%v: %v", test.asked, err)
			}
			if err := w.Delete(t.Context(), alice, "f", ""); err != nil {
				t.Fatal(err)
			}
			continue
		}
		wantProblem(t, err, thaw.Invalid, test.problem, "")
	}
}

// TestLogLevels: JSON has levels where Text has none.
func TestLogLevels(t *testing.T) {
	w := newWorld(t)
	w.images.Push(alice, "image", controltest.Image{})
	f, err := w.Create(t.Context(), alice, control.NewFunction{Name: "f", ImageURI: "image", Change: control.Change{Role: ptr(role)}})
	if err != nil || f.Settings.Logging != (control.Logging{LogFormat: "Text", LogGroup: "/aws/lambda/f"}) {
		t.Fatalf("%+v, %v", f.Settings.Logging, err)
	}
	w.settled(t, alice, "f")
	for _, step := range []struct{ change, want control.Logging }{
		{control.Logging{LogFormat: "JSON"}, control.Logging{LogFormat: "JSON", ApplicationLogLevel: "INFO", SystemLogLevel: "INFO", LogGroup: "/aws/lambda/f"}},
		{control.Logging{ApplicationLogLevel: "DEBUG", LogGroup: "/mine"}, control.Logging{LogFormat: "JSON", ApplicationLogLevel: "DEBUG", SystemLogLevel: "INFO", LogGroup: "/mine"}},
		{control.Logging{LogFormat: "Text"}, control.Logging{LogFormat: "Text", LogGroup: "/mine"}},
	} {
		f, err := w.UpdateSettings(t.Context(), alice, "f", "", control.Change{Logging: &step.change})
		if err != nil || f.Settings.Logging != step.want {
			t.Errorf("%+v gives %+v, %v", step.change, f.Settings.Logging, err)
		}
	}
}

// TestImageThatCanNotRun: what no kernel could start fails at creation, and is
// told as the image's fault.
func TestImageThatCanNotRun(t *testing.T) {
	w := newWorld(t)
	for name, row := range map[string]struct {
		image controltest.Image
		want  string // "" where it can run
		own   []string
	}{
		"large":      {image: controltest.Image{Env: slices.Repeat([]string{"V=" + strings.Repeat("y", 1000)}, 200)}},
		"too-much":   {image: controltest.Image{Env: slices.Repeat([]string{"V=" + strings.Repeat("y", 1000)}, 3000)}, want: "take 3033015 bytes"},
		"too-long":   {image: controltest.Image{Command: []string{strings.Repeat("y", 200_000)}}, want: "argument 1 has 200000 bytes"},
		"nul":        {image: controltest.Image{Env: []string{"A=\x00"}}, want: `the environment variable "A" contains a NUL character`},
		"dir":        {image: controltest.Image{Dir: "/a\x00"}, want: "working directory"},
		"nothing":    {image: controltest.Image{Entrypoint: []string{}}, want: "neither the image nor the function names a command"},
		"own":        {image: controltest.Image{Entrypoint: []string{}}, own: []string{"/own"}},
		"command":    {image: controltest.Image{Entrypoint: []string{}, Command: []string{"/run"}}},
		"empty":      {image: controltest.Image{Entrypoint: []string{""}, Command: []string{"/run"}}, want: "the first word of the command is empty"},
		"empty-own":  {image: controltest.Image{Entrypoint: []string{""}}, own: []string{"/own"}},
		"empty-last": {image: controltest.Image{Command: []string{""}}},
	} {
		row.image.Content = name
		w.images.Push(alice, name, row.image)
		if _, err := w.Create(t.Context(), alice, control.NewFunction{Name: name, ImageURI: name, Change: control.Change{Role: ptr(role), ImageConfig: &control.ImageConfig{EntryPoint: row.own}}}); err != nil {
			t.Fatal(err)
		}
		f := w.settled(t, alice, name)
		if row.want == "" {
			if f.State != control.Active {
				t.Errorf("%s: %s, %s", name, f.State, f.Reason)
			}
			continue
		}
		if f.State != control.Failed || f.ReasonCode != control.ReasonInvalidImage || !strings.Contains(f.Reason, row.want) {
			t.Errorf("%s: %s, %s, %q", name, f.State, f.ReasonCode, f.Reason)
		}
	}
}

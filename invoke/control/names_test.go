// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/invoke/control/controltest"
)

func TestTenantsDoNotMeet(t *testing.T) {
	w := newWorld(t)
	w.create(t, alice, "f")
	w.settled(t, alice, "f")
	arn := w.ARN(alice, "f", "")
	for _, name := range []string{"f", arn, "111111111111:function:f", arn + ":$LATEST"} {
		_, _, get := w.Get(t.Context(), bob, name, "")
		_, invoke := w.ResolveInvoke(t.Context(), bob, name, "")
		_, code := w.UpdateCode(t.Context(), bob, control.CodeUpdate{Name: name, ImageURI: "reg/f:1"})
		_, settings := w.UpdateSettings(t.Context(), bob, name, "", control.Change{})
		remove := w.Delete(t.Context(), bob, strings.TrimSuffix(name, ":$LATEST"), "")
		tag := w.Tag(t.Context(), bob, strings.TrimSuffix(name, ":$LATEST"), map[string]string{"a": "b"}, nil)
		for i, err := range []error{get, invoke, code, settings, remove, tag} {
			if thaw.KindOf(err) != thaw.NotFound {
				t.Errorf("%s, %d: %v", name, i, err)
			}
		}
	}
	// The text is the same whether the function exists or not.
	_, _, there := w.Get(t.Context(), bob, arn, "")
	_, _, absent := w.Get(t.Context(), bob, w.ARN(alice, "g", ""), "")
	if strings.ReplaceAll(there.Error(), "function:f", "function:g") != absent.Error() {
		t.Errorf("%v\n%v", there, absent)
	}
	_, err := w.Create(t.Context(), bob, control.NewFunction{Name: w.ARN(alice, "x", ""), ImageURI: "reg/f:1", Change: control.Change{Role: ptr(role)}})
	if thaw.KindOf(err) != thaw.NotFound {
		t.Errorf("created in another account: %v", err)
	}
	w.create(t, bob, "f")
	page, _, err := w.List(t.Context(), bob, "", 50)
	if err != nil || len(page) != 1 || page[0].Tenant != bob {
		t.Errorf("%v, %v", page, err)
	}
	if n, err := w.Count(t.Context(), alice); n != 1 || err != nil {
		t.Errorf("alice has %d, %v", n, err)
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	w.create(t, alice, "f")
	w.create(t, alice, "123456789012")
	w.create(t, alice, "function")
	w.settled(t, alice, "f")
	w.settled(t, alice, "123456789012")
	w.settled(t, alice, "function")
	base := "arn:aws:lambda:us-east-1:111111111111:function:"
	for text, arn := range map[string]string{
		"f": base + "f", "f:$LATEST": base + "f:$LATEST", base + "f": base + "f", base + "f:$LATEST": base + "f:$LATEST",
		"111111111111:function:f": base + "f", "function:f": base + "f", "111111111111:f": base + "f",
		"us-east-1:111111111111:function:f": base + "f", "123456789012": base + "123456789012",
		"123456789012:$LATEST": base + "123456789012:$LATEST", "function": base + "function", "function:function": base + "function",
	} {
		target, err := w.ResolveInvoke(t.Context(), alice, text, "")
		if err != nil || target.ARN != arn {
			t.Errorf("%s: %s, %v; want %s", text, target.ARN, err, arn)
		}
		if _, got, err := w.Get(t.Context(), alice, text, ""); err != nil || got != arn {
			t.Errorf("get %s: %s, %v; want %s", text, got, err, arn)
		}
	}
	if target, err := w.ResolveInvoke(t.Context(), alice, "f", "$LATEST"); err != nil || target.ARN != base+"f:$LATEST" {
		t.Errorf("%s, %v", target.ARN, err)
	}
	for _, test := range []struct {
		text, qualifier string
		kind            thaw.Kind
		problem         control.ProblemType
		message         string
	}{
		{"f", "1", thaw.NotFound, control.ResourceNotFound, base + "f:1"},
		{"f:prod", "", thaw.NotFound, control.ResourceNotFound, base + "f:prod"},
		{"f:$LATEST", "1", thaw.Invalid, control.InvalidParameter, "The derived qualifier from the function name does not match the specified qualifier."},
		{"", "", thaw.Invalid, control.FailedValidation, "1 validation error detected: Value '' at 'functionName' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"a b", "", thaw.Invalid, control.FailedValidation, "1 validation error detected: Value 'a b' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:"},
		{"a/b", "", thaw.Invalid, control.FailedValidation, "functionName"},
		{"f:a:b:c", "", thaw.Invalid, control.FailedValidation, "functionName"},
		{strings.Repeat("a", 65), "", thaw.Invalid, control.FailedValidation, "Member must have length less than or equal to 64"},
		{base + strings.Repeat("a", 65), "", thaw.Invalid, control.FailedValidation, "Member must have length less than or equal to 64"},
		{base + strings.Repeat("a", 200), "", thaw.Invalid, control.FailedValidation, "Member must have length less than or equal to 170"},
		{"f", "a b", thaw.Invalid, control.FailedValidation, "at 'qualifier'"},
		{"arn:aws:lambda:eu-west-1:111111111111:function:f", "", thaw.NotFound, control.ResourceNotFound, "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"},
	} {
		_, err := w.ResolveInvoke(t.Context(), alice, test.text, test.qualifier)
		wantProblem(t, err, test.kind, test.problem, test.message)
	}
}

func TestListPages(t *testing.T) {
	w := newWorld(t)
	w.images.Push(alice, "image", controltest.Image{})
	var want []string
	for i := range 120 {
		name := fmt.Sprintf("f-%03d", i)
		if _, err := w.Create(t.Context(), alice, control.NewFunction{Name: name, ImageURI: "image", Change: control.Change{Role: ptr(role)}}); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	for _, n := range []int{1, 7, 50, 10_000} {
		var got []string
		marker := ""
		for {
			page, next, err := w.List(t.Context(), alice, marker, n)
			if err != nil || len(page) > min(n, 50) {
				t.Fatalf("%d functions, %v", len(page), err)
			}
			for _, f := range page {
				got = append(got, f.Name)
			}
			if marker = next; marker == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v", n, got)
		}
	}
	_, _, err := w.List(t.Context(), alice, "!", 1)
	wantProblem(t, err, thaw.Invalid, control.InvalidParameter, "Invalid pagination token")
}

func TestTags(t *testing.T) {
	w := newWorld(t)
	f := w.create(t, alice, "f")
	w.settled(t, alice, "f")
	arn := w.ARN(alice, "f", "")
	if err := w.Tag(t.Context(), alice, arn, map[string]string{"a": "1", "b": "2"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Tag(t.Context(), alice, arn, map[string]string{"b": "3"}, []string{"a", "none"}); err != nil {
		t.Fatal(err)
	}
	got, _, err := w.Get(t.Context(), alice, "f", "")
	if err != nil || len(got.Tags) != 1 || got.Tags["b"] != "3" || got.Revision != f.Revision {
		t.Errorf("%+v, %v", got, err)
	}
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint(i)] = ""
	}
	for _, tags := range []map[string]string{many, {"": "x"}, {"aws:x": "y"}, {strings.Repeat("k", 129): ""}, {"k": strings.Repeat("v", 257)}} {
		wantProblem(t, w.Tag(t.Context(), alice, arn, tags, nil), thaw.Invalid, control.InvalidParameter, "")
	}
	wantProblem(t, w.Tag(t.Context(), alice, arn+":$LATEST", nil, nil), thaw.Invalid, control.InvalidParameter, "not supported")
}

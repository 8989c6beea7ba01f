// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"strings"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/tenant/sigv4"
)

// timestamp is how Lambda writes LastModified.
const timestamp = "2006-01-02T15:04:05.000-0700"

// functionRequest is the union of the bodies of CreateFunction,
// UpdateFunctionConfiguration and UpdateFunctionCode. Members that this server
// does not know are ignored, as Lambda ignores them; those that it knows and
// can't honour are refused, see refuseUnsupported.
type functionRequest struct {
	FunctionName  string
	Code          codeRequest
	codeRequest   // of UpdateFunctionCode, where the members stand by themselves
	PackageType   string
	Architectures []string
	Tags          map[string]string
	RevisionId    string
	DryRun        bool

	Description      *string
	Role             *string
	Timeout          *int
	MemorySize       *int
	EphemeralStorage *struct{ Size *int }
	Environment      *struct{ Variables map[string]string }
	ImageConfig      *control.ImageConfig
	LoggingConfig    *control.Logging
	TracingConfig    *struct{ Mode string }

	Publish              bool
	PublishTo            string
	Runtime              string
	Handler              string
	Layers               []string
	KMSKeyArn            string
	CodeSigningConfigArn string
	FileSystemConfigs    []json.RawMessage
	VpcConfig            struct{ SubnetIds, SecurityGroupIds []string }
	DeadLetterConfig     struct{ TargetArn string }
	SnapStart            struct{ ApplyOn string }

	CapacityProviderConfig json.RawMessage
	DurableConfig          json.RawMessage
	TenancyConfig          json.RawMessage
}

// codeRequest is where a function's code comes from.
type codeRequest struct {
	ImageUri        string
	ZipFile         string
	S3Bucket, S3Key string
	SourceKMSKeyArn string
}

// decode reads a JSON body.
func (c *call) decode(into any) error {
	data, err := sigv4.ReadBody(c.r)
	if err != nil {
		return err
	}
	err = json.Unmarshal(data, into)
	if typeError, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return refuse(badType, "The member '%s' can't be a JSON %s.", typeError.Field, typeError.Value)
	}
	if err != nil {
		return refuse(invalidContent, "Could not parse request body into json: %v", err)
	}
	return nil
}

// refuseUnsupported refuses what would change how the function runs, or who
// may see what, and can't be honoured. What only watches is kept.
func (r *functionRequest) refuseUnsupported() error {
	for _, member := range []struct {
		used bool
		why  string
	}{
		{r.PackageType != "" && r.PackageType != "Image", "PackageType must be Image: this server runs container images only."},
		{r.Code.isArchive() || r.isArchive(), "ZipFile and S3 objects are not supported: this server runs container images only. Give an ImageUri."},
		{r.Code.SourceKMSKeyArn != "" || r.SourceKMSKeyArn != "", "SourceKMSKeyArn is not supported: images have no archive to encrypt."},
		{r.Runtime != "" || r.Handler != "" || len(r.Layers) > 0, "Please don't provide Runtime, Handler or Layers for a function made of an image: the image holds them."},
		{r.Publish || r.PublishTo != "", "Publish is not supported: this server keeps no versions, only $LATEST. Send the request without it."},
		{len(r.VpcConfig.SubnetIds)+len(r.VpcConfig.SecurityGroupIds) > 0, "VpcConfig is not supported: the operator of this server sets the network of functions."},
		{len(r.FileSystemConfigs) > 0, "FileSystemConfigs is not supported."},
		{r.DeadLetterConfig.TargetArn != "", "DeadLetterConfig is not supported: there are no asynchronous invocations."},
		{r.KMSKeyArn != "", "KMSKeyArn is not supported: the operator of this server holds the keys."},
		{r.CodeSigningConfigArn != "", "CodeSigningConfigArn is not supported."},
		{r.SnapStart.ApplyOn != "" && r.SnapStart.ApplyOn != "None", "SnapStart is not supported."},
		{given(r.CapacityProviderConfig), "CapacityProviderConfig is not supported."},
		{given(r.DurableConfig), "DurableConfig is not supported."},
		{given(r.TenancyConfig), "TenancyConfig is not supported."},
	} {
		if member.used {
			return refuse(string(control.InvalidParameter), "%s", member.why)
		}
	}
	return nil
}

func (r *codeRequest) isArchive() bool { return r.ZipFile != "" || r.S3Bucket != "" || r.S3Key != "" }

func given(raw json.RawMessage) bool {
	text := string(raw)
	return text != "" && text != "null" && text != "{}"
}

// change is what the request sets of the function's settings.
func (r *functionRequest) change() control.Change {
	change := control.Change{Description: r.Description, Role: r.Role, TimeoutSeconds: r.Timeout, MemoryMB: r.MemorySize,
		ImageConfig: r.ImageConfig, Logging: r.LoggingConfig}
	if r.EphemeralStorage != nil {
		change.EphemeralMB = r.EphemeralStorage.Size
	}
	if r.Environment != nil {
		change.Environment = &r.Environment.Variables // none given: none wanted
	}
	if r.TracingConfig != nil && r.TracingConfig.Mode != "" {
		change.Tracing = &r.TracingConfig.Mode
	}
	return change
}

// functionConfiguration is a function as Lambda shows it.
type functionConfiguration struct {
	FunctionName               string
	FunctionArn                string
	Role                       string
	CodeSize                   int64 // 0 for images, as at Lambda
	Description                string
	Timeout                    int
	MemorySize                 int
	LastModified               string
	CodeSha256                 string
	Version                    string
	Environment                *variables `json:",omitempty"`
	TracingConfig              mode
	RevisionId                 string
	State                      control.State
	StateReason                string               `json:",omitempty"`
	StateReasonCode            control.ReasonCode   `json:",omitempty"`
	LastUpdateStatus           control.UpdateStatus `json:",omitempty"`
	LastUpdateStatusReason     string               `json:",omitempty"`
	LastUpdateStatusReasonCode control.ReasonCode   `json:",omitempty"`
	PackageType                string
	ImageConfigResponse        *imageConfigResponse `json:",omitempty"`
	Architectures              []string
	EphemeralStorage           size
	SnapStart                  snapStart
	LoggingConfig              control.Logging
}

type (
	variables           struct{ Variables map[string]string }
	mode                struct{ Mode string }
	size                struct{ Size int }
	snapStart           struct{ ApplyOn, OptimizationStatus string }
	imageConfigResponse struct{ ImageConfig control.ImageConfig }
)

// configurationOf shows f under the ARN it was asked for. While an image is
// being prepared the configuration tells of that one.
func configurationOf(f *control.Function, arn string) functionConfiguration {
	s := f.Settings
	shown := functionConfiguration{
		FunctionName: f.Name, FunctionArn: arn, Role: s.Role, Description: s.Description,
		Timeout: s.TimeoutSeconds, MemorySize: s.MemoryMB, LastModified: f.Modified.Format(timestamp),
		Version: control.Latest, TracingConfig: mode{s.Tracing}, RevisionId: f.Revision,
		State: f.State, StateReason: f.Reason, StateReasonCode: f.ReasonCode,
		LastUpdateStatus: f.Update, LastUpdateStatusReason: f.UpdateReason, LastUpdateStatusReasonCode: f.UpdateCode,
		PackageType: "Image", Architectures: []string{f.Architecture}, EphemeralStorage: size{s.EphemeralMB},
		SnapStart: snapStart{"None", "Off"}, LoggingConfig: s.Logging,
	}
	if code := f.Asked(); code != nil {
		shown.CodeSha256 = strings.TrimPrefix(code.Digest, "sha256:")
	}
	if len(s.Environment) > 0 {
		shown.Environment = &variables{s.Environment}
	}
	if !s.ImageConfig.IsZero() {
		shown.ImageConfigResponse = &imageConfigResponse{s.ImageConfig}
	}
	return shown
}

// codeLocation says where a function's image came from.
type codeLocation struct {
	RepositoryType, ImageUri, ResolvedImageUri string
}

func locationOf(code *control.Code) codeLocation {
	if code == nil {
		return codeLocation{RepositoryType: "ECR"}
	}
	repository, _, _ := strings.Cut(code.ImageURI, "@")
	// A colon after the last slash begins a tag; before it, a port.
	if colon := strings.LastIndexByte(repository, ':'); colon > strings.LastIndexByte(repository, '/') {
		repository = repository[:colon]
	}
	return codeLocation{"ECR", code.ImageURI, repository + "@" + code.Digest}
}

// imageHeader and progressHeader tell the project's own command line what the
// API has no member for.
const (
	imageHeader    = "X-Thaw-Image"    // id of the image that serves
	progressHeader = "X-Thaw-Progress" // control.Progress as JSON, while an image is being prepared
)

func (h *Handler) tellOurOwn(c *call, f *control.Function) error {
	if f.Code != nil {
		c.Header().Set(imageHeader, f.Code.Prepared.Image.String())
	}
	if progress, ok := h.options.Control.Progress(f); ok {
		text, err := json.Marshal(progress)
		if err != nil {
			return thaw.Wrap("answer", err)
		}
		c.Header().Set(progressHeader, string(text))
	}
	return nil
}

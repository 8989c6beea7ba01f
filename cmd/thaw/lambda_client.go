package main

import (
	"context"
	"errors"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"thaw.dev/thaw"
)

// apiFlags choose the server and the tenant for commands that use the Lambda
// API, as any other client would.
type apiFlags struct {
	dataFlag
	Tenant   string `help:"The tenant to act as." default:"default"`
	Endpoint string `help:"URL of the server; by default AWS_ENDPOINT_URL with the AWS credentials of the environment, else the server of --data." env:"THAW_ENDPOINT"`
}

// session is what a command needs to act as a tenant.
type session struct {
	endpoint, region  string
	accessKey, secret string
}

// open takes the endpoint and the credentials from the environment where both
// are there, as the AWS tools do, and else asks the server of --data.
func (f apiFlags) open(ctx context.Context) (session, error) {
	endpoint := f.Endpoint
	if endpoint == "" {
		endpoint = os.Getenv("AWS_ENDPOINT_URL")
	}
	s := session{
		endpoint: endpoint, region: os.Getenv("AWS_REGION"),
		accessKey: os.Getenv("AWS_ACCESS_KEY_ID"), secret: os.Getenv("AWS_SECRET_ACCESS_KEY"),
	}
	if s.endpoint != "" && s.accessKey != "" && s.secret != "" && f.Tenant == "default" {
		if s.region == "" {
			s.region = "us-east-1"
		}
		return s, nil
	}
	admin := f.admin()
	info, err := admin.info(ctx)
	if err != nil {
		return s, err
	}
	account, err := admin.account(ctx, f.Tenant)
	if err != nil {
		return s, err
	}
	return session{endpoint: info.Endpoint, region: info.Region, accessKey: account.AccessKeyID, secret: account.Secret}, nil
}

func (s session) lambda() *lambda.Client {
	return lambda.New(lambda.Options{
		Region:       s.region,
		BaseEndpoint: aws.String(s.endpoint),
		Credentials:  credentials.NewStaticCredentialsProvider(s.accessKey, s.secret, ""),
		// An invocation may run for 15 minutes; it must not be sent twice.
		RetryMaxAttempts: 1,
	})
}

// plain turns an SDK's error into the server's own words and kind.
func plain(err error) error {
	apiError, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return err
	}
	kind := thaw.Internal
	switch apiError.ErrorCode() {
	case "ResourceNotFoundException":
		kind = thaw.NotFound
	case "ResourceConflictException":
		kind = thaw.Conflict
	case "InvalidParameterValueException", "ValidationException":
		kind = thaw.Invalid
	case "TooManyRequestsException":
		kind = thaw.Throttled
	case "UnrecognizedClientException":
		return thaw.Errorf("", thaw.Denied, "the server does not know this access key; where it is the environment's, run: eval \"$(thaw env)\"")
	}
	return thaw.Errorf("", kind, "%s: %s", apiError.ErrorCode(), apiError.ErrorMessage())
}

func isNotFound(err error) bool {
	_, ok := errors.AsType[*types.ResourceNotFoundException](err)
	return ok
}

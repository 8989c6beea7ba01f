// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"gocloud.dev/blob/s3blob"
)

// openS3 opens a bucket of S3, or of what speaks its protocol at an endpoint.
// Credentials, and what the URL does not say, come from the environment as the
// AWS CLI takes them: AWS_* variables, ~/.aws, the container's or the machine's
// role.
func openS3(ctx context.Context, at location, o Options) (service, error) {
	endpoint := at.params["endpoint"]
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = o.Concurrency, o.Concurrency
	})
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithLogger(logging.LoggerFunc(func(_ logging.Classification, format string, v ...any) {
			slog.Default().Warn("origin: " + fmt.Sprintf(format, v...)) // by itself it would print to the standard error
		})),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }), // package doc: Failures
		// The name of a chunk is a better checksum than the ones that the SDK adds
		// by default, which other servers than Amazon's often lack. What is put
		// is covered by the request's signature.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if region := at.params["region"]; region != "" {
		options = append(options, config.WithRegion(region))
	}
	if profile := at.params["profile"]; profile != "" {
		options = append(options, config.WithSharedConfigProfile(profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return service{}, err
	}
	if cfg.Region == "" {
		if endpoint == "" {
			return service{}, errors.New("the region is missing: add region=... to the URL, or set AWS_REGION")
		}
		cfg.Region = "us-east-1" // what servers that have none expect
	}
	// A server of one's own has seldom a name in DNS for each bucket.
	pathStyle := endpoint != ""
	if text := at.params["path_style"]; text != "" {
		if pathStyle, err = strconv.ParseBool(text); err != nil {
			return service{}, errors.New("path_style must be true or false")
		}
	}
	where := "S3 bucket " + at.bucket + " in region " + cfg.Region
	if endpoint != "" {
		where = "S3 bucket " + at.bucket + " at " + endpoint
	}
	c := s3.NewFromConfig(cfg, func(s *s3.Options) {
		s.UsePathStyle = pathStyle
		if endpoint != "" {
			s.BaseEndpoint = aws.String(endpoint)
		}
	})
	blobs, err := s3blob.OpenBucket(ctx, c, at.bucket, &s3blob.Options{RequestChecksumCalculation: cfg.RequestChecksumCalculation})
	if err != nil {
		return service{}, err
	}
	return service{blobs: blobs, where: where, status: statusS3}, nil
}

// statusS3 is the status of the HTTP response that an error tells of, 0 for
// none, and S3's word for it.
func statusS3(err error) (status int, code string) {
	response, ok := errors.AsType[*awshttp.ResponseError](err)
	if !ok {
		return 0, ""
	}
	if named, ok := errors.AsType[smithy.APIError](err); ok {
		code = named.ErrorCode()
	}
	return response.HTTPStatusCode(), code
}

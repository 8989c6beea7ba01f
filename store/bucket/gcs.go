// SPDX-License-Identifier: Apache-2.0

//go:build gcs

package bucket

import (
	"context"
	"errors"
	"net/http"

	"cloud.google.com/go/storage"
	"gocloud.dev/blob/gcsblob"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
)

// openGCS opens a bucket of Google Cloud Storage. Credentials are the
// application default ones: GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, the
// machine's service account.
func openGCS(ctx context.Context, at location, _ Options) (service, error) {
	var options []option.ClientOption
	where := "GCS bucket " + at.bucket
	if endpoint := at.params["endpoint"]; endpoint != "" {
		options = append(options, option.WithEndpoint(endpoint))
		where += " at " + endpoint
	}
	client, err := storage.NewClient(ctx, options...)
	if err != nil {
		return service{}, err
	}
	client.SetRetry(storage.WithPolicy(storage.RetryNever)) // package doc: Failures
	blobs, err := gcsblob.OpenBucket(ctx, nil, at.bucket, &gcsblob.Options{Client: client})
	if err != nil {
		return service{}, errors.Join(err, client.Close())
	}
	return service{blobs: blobs, where: where, status: statusGCS}, nil
}

// statusGCS is as statusS3.
func statusGCS(err error) (status int, code string) {
	switch {
	case errors.Is(err, storage.ErrBucketNotExist):
		return http.StatusNotFound, "NoSuchBucket"
	case errors.Is(err, storage.ErrObjectNotExist):
		return http.StatusNotFound, ""
	}
	if response, ok := errors.AsType[*googleapi.Error](err); ok {
		return response.Code, ""
	}
	return 0, ""
}

// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob/azureblob"
)

// openAzure opens a container of Azure's blob storage. Credentials come from
// AZURE_STORAGE_CONNECTION_STRING, from AZURE_STORAGE_KEY for the account, or
// from Azure's default chain: AZURE_* variables, the workload's or the
// machine's identity, the Azure CLI's login.
func openAzure(ctx context.Context, at location, o Options) (service, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = o.Concurrency, o.Concurrency
	options := &container.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: &http.Client{Transport: transport},
		Retry:     policy.RetryOptions{MaxRetries: -1}, // package doc: Failures
	}}
	client, err := azureClient(at, options)
	if err != nil {
		return service{}, err
	}
	blobs, err := azureblob.OpenBucket(ctx, client, nil)
	if err != nil {
		return service{}, err
	}
	host, _, _ := strings.Cut(client.URL(), "?") // a signature may follow
	return service{blobs: blobs, where: "Azure container " + host, status: statusAzure}, nil
}

func azureClient(at location, options *container.ClientOptions) (*container.Client, error) {
	if text := os.Getenv("AZURE_STORAGE_CONNECTION_STRING"); text != "" {
		return container.NewClientFromConnectionString(text, at.bucket, options)
	}
	account := at.params["account"]
	if account == "" {
		account = os.Getenv("AZURE_STORAGE_ACCOUNT")
	}
	if account == "" {
		return nil, errors.New("the account is missing: add account=... to the URL, or set AZURE_STORAGE_ACCOUNT")
	}
	endpoint := at.params["endpoint"]
	if endpoint == "" {
		endpoint = "https://" + account + ".blob.core.windows.net"
	}
	where, err := url.JoinPath(endpoint, at.bucket)
	if err != nil {
		return nil, err
	}
	if key := os.Getenv("AZURE_STORAGE_KEY"); key != "" {
		shared, err := container.NewSharedKeyCredential(account, key)
		if err != nil {
			return nil, err
		}
		return container.NewClientWithSharedKeyCredential(where, shared, options)
	}
	identity, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, err
	}
	return container.NewClient(where, identity, options)
}

// statusAzure is as statusS3.
func statusAzure(err error) (status int, code string) {
	if response, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return response.StatusCode, response.ErrorCode
	}
	return 0, ""
}

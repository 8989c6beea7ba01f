// SPDX-License-Identifier: Apache-2.0

package ecr

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"thaw.dev/thaw/image/registry"
)

const (
	defaultResults = 100
	maxResults     = 1000
	maxNames       = 100 // named in one request
)

// epoch is how the JSON protocol writes a time: seconds of Unix time.
type epoch float64

func epochOf(t time.Time) epoch { return epoch(float64(t.UnixMilli()) / 1000) }

func (c *call) getAuthorizationToken(struct{}) (any, error) {
	expires := time.Now().Add(registry.TokenTTL)
	token, err := c.Tokens.Issue(registry.Claims{Tenant: c.tenant, Key: c.key, Expires: expires.Unix()})
	if err != nil {
		return nil, err
	}
	type authorization struct {
		AuthorizationToken string `json:"authorizationToken"`
		ExpiresAt          epoch  `json:"expiresAt"`
		ProxyEndpoint      string `json:"proxyEndpoint"`
	}
	return map[string][]authorization{"authorizationData": {{
		AuthorizationToken: base64.StdEncoding.EncodeToString([]byte("AWS:" + token)),
		ExpiresAt:          epochOf(expires),
		ProxyEndpoint:      c.Endpoint(c.r).String(),
	}}}, nil
}

type scanning struct {
	ScanOnPush bool `json:"scanOnPush"`
}

type encryption struct {
	EncryptionType string `json:"encryptionType"`
	KMSKey         string `json:"kmsKey,omitempty"`
}

type tagFilter struct {
	FilterType string `json:"filterType"`
	Filter     string `json:"filter"`
}

// repository is a repository in an answer.
type repository struct {
	RepositoryArn              string              `json:"repositoryArn"`
	RegistryID                 string              `json:"registryId"`
	RepositoryName             string              `json:"repositoryName"`
	RepositoryURI              string              `json:"repositoryUri"`
	CreatedAt                  epoch               `json:"createdAt"`
	ImageTagMutability         registry.Mutability `json:"imageTagMutability"`
	ExclusionFilters           []tagFilter         `json:"imageTagMutabilityExclusionFilters,omitempty"`
	ImageScanningConfiguration scanning            `json:"imageScanningConfiguration"`
	EncryptionConfiguration    encryption          `json:"encryptionConfiguration"`
}

func (c *call) describe(r registry.Repository) repository {
	out := repository{
		RepositoryArn:              c.arn(r.Name),
		RegistryID:                 string(c.tenant),
		RepositoryName:             r.Name,
		RepositoryURI:              c.Endpoint(c.r).Host + "/" + r.Name,
		CreatedAt:                  epochOf(r.Created),
		ImageTagMutability:         mutabilityOf(r.Settings),
		ExclusionFilters:           filtersOf(r.Settings),
		ImageScanningConfiguration: scanning{r.Settings.ScanOnPush},
		EncryptionConfiguration:    encryption{EncryptionType: "AES256"},
	}
	return out
}

func mutabilityOf(s registry.Settings) registry.Mutability {
	if s.Mutability == "" {
		return registry.Mutable
	}
	return s.Mutability
}

func filtersOf(s registry.Settings) []tagFilter {
	var filters []tagFilter
	for _, f := range s.Filters {
		filters = append(filters, tagFilter{"WILDCARD", f})
	}
	return filters
}

type createRepositoryInput struct {
	repositoryRef
	Tags                       []label             `json:"tags"`
	ImageTagMutability         registry.Mutability `json:"imageTagMutability"`
	ExclusionFilters           []tagFilter         `json:"imageTagMutabilityExclusionFilters"`
	ImageScanningConfiguration scanning            `json:"imageScanningConfiguration"`
	EncryptionConfiguration    *encryption         `json:"encryptionConfiguration"`
}

func (c *call) createRepository(in createRepositoryInput) (any, error) {
	w, err := c.writer(in.repositoryRef)
	if err != nil {
		return nil, err
	}
	if e := in.EncryptionConfiguration; e != nil && (e.EncryptionType != "AES256" || e.KMSKey != "") {
		return nil, invalid("encryption %q is not available: what functions run is sealed with their account's key whatever is chosen here; choose AES256", clip(e.EncryptionType))
	}
	settings := registry.Settings{Mutability: in.ImageTagMutability, ScanOnPush: in.ImageScanningConfiguration.ScanOnPush}
	if settings.Filters, err = readFilters(in.ExclusionFilters); err != nil {
		return nil, err
	}
	if err := addLabels(&settings, in.Tags); err != nil {
		return nil, err
	}
	created, err := w.Create(settings)
	if registry.CodeOf(err) == registry.CodeNameExists {
		return nil, fault("RepositoryAlreadyExistsException", "The repository with name '%s' already exists in the registry with id '%s'", in.RepositoryName, c.tenant)
	}
	if err != nil {
		return nil, err
	}
	return map[string]repository{"repository": c.describe(created)}, nil
}

func readFilters(in []tagFilter) ([]string, error) {
	var filters []string
	for _, f := range in {
		if f.FilterType != "WILDCARD" {
			return nil, invalid("filterType %q is not WILDCARD", clip(f.FilterType))
		}
		filters = append(filters, f.Filter)
	}
	return filters, nil
}

type describeRepositoriesInput struct {
	RegistryID      string   `json:"registryId"`
	RepositoryNames []string `json:"repositoryNames"`
	NextToken       string   `json:"nextToken"`
	MaxResults      int      `json:"maxResults"`
}

func (c *call) describeRepositories(in describeRepositoriesInput) (any, error) {
	type output struct {
		Repositories []repository `json:"repositories"`
		NextToken    string       `json:"nextToken,omitempty"`
	}
	out := output{Repositories: []repository{}}
	if err := c.checkRegistry(repositoryRef{RegistryID: in.RegistryID}); err != nil {
		return nil, err
	}
	if len(in.RepositoryNames) > maxNames {
		return nil, invalid("at most %d repositories in one request", maxNames)
	}
	for _, name := range in.RepositoryNames {
		r, err := c.reader(repositoryRef{RepositoryName: name})
		if err != nil {
			return nil, err
		}
		desc, err := r.Describe()
		if err != nil {
			return nil, c.unknownRepository(err, name)
		}
		out.Repositories = append(out.Repositories, c.describe(desc))
	}
	if len(in.RepositoryNames) > 0 {
		return out, nil
	}
	all, err := c.Store.Repositories(c.r.Context(), registry.Identity{Tenant: c.tenant})
	if err != nil {
		return nil, err
	}
	shown, next, err := paged(all, in.NextToken, in.MaxResults, func(r registry.Repository) string { return r.Name })
	if err != nil {
		return nil, err
	}
	for _, r := range shown {
		out.Repositories = append(out.Repositories, c.describe(r))
	}
	out.NextToken = next
	return out, nil
}

// unknownRepository puts ECR's words on a repository that is not there.
func (c *call) unknownRepository(err error, name string) error {
	if registry.CodeOf(err) == registry.CodeNameUnknown {
		return fault("RepositoryNotFoundException", "The repository with name '%s' does not exist in the registry with id '%s'", name, c.tenant)
	}
	return err
}

// paged returns the part of all, which is ordered by key, that a token and a
// limit ask for, and the token of the rest. A token is the last key shown, so
// that entries may come and go between two pages.
func paged[T any](all []T, token string, limit int, key func(T) string) ([]T, string, error) {
	if limit == 0 {
		limit = defaultResults
	}
	if limit < 1 || limit > maxResults {
		return nil, "", invalid("maxResults is %d, not 1 to %d", limit, maxResults)
	}
	if token != "" {
		last, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || len(last) == 0 {
			return nil, "", invalid("nextToken is not one of ours")
		}
		start, found := slices.BinarySearchFunc(all, string(last), func(e T, k string) int { return strings.Compare(key(e), k) })
		if found {
			start++
		}
		all = all[start:]
	}
	if len(all) <= limit {
		return all, "", nil
	}
	all = all[:limit]
	return all, base64.RawURLEncoding.EncodeToString([]byte(key(all[limit-1]))), nil
}

type deleteRepositoryInput struct {
	repositoryRef
	Force bool `json:"force"`
}

func (c *call) deleteRepository(in deleteRepositoryInput) (any, error) {
	w, err := c.writer(in.repositoryRef)
	if err != nil {
		return nil, err
	}
	deleted, err := w.Delete(in.Force)
	if registry.CodeOf(err) == registry.CodeNameNotEmpty {
		return nil, fault("RepositoryNotEmptyException", "The repository with name '%s' in registry with id '%s' cannot be deleted because it still contains images", in.RepositoryName, c.tenant)
	}
	if err != nil {
		return nil, c.unknownRepository(err, in.RepositoryName)
	}
	return map[string]repository{"repository": c.describe(deleted)}, nil
}

type mutabilityInput struct {
	repositoryRef
	ImageTagMutability registry.Mutability `json:"imageTagMutability"`
	ExclusionFilters   []tagFilter         `json:"imageTagMutabilityExclusionFilters"`
}

func (c *call) putImageTagMutability(in mutabilityInput) (any, error) {
	w, err := c.writer(in.repositoryRef)
	if err != nil {
		return nil, err
	}
	filters, err := readFilters(in.ExclusionFilters)
	if err != nil {
		return nil, err
	}
	desc, err := w.Change(func(s *registry.Settings) error {
		s.Mutability, s.Filters = in.ImageTagMutability, filters
		return nil
	})
	if err != nil {
		return nil, c.unknownRepository(err, in.RepositoryName)
	}
	return struct {
		repositoryRef
		ImageTagMutability registry.Mutability `json:"imageTagMutability"`
		ExclusionFilters   []tagFilter         `json:"imageTagMutabilityExclusionFilters,omitempty"`
	}{c.ref(desc.Name), mutabilityOf(desc.Settings), filtersOf(desc.Settings)}, nil
}

type scanningInput struct {
	repositoryRef
	ImageScanningConfiguration scanning `json:"imageScanningConfiguration"`
}

// putImageScanningConfiguration keeps the setting, so that tools which set it
// find it again. Nothing is scanned.
func (c *call) putImageScanningConfiguration(in scanningInput) (any, error) {
	w, err := c.writer(in.repositoryRef)
	if err != nil {
		return nil, err
	}
	desc, err := w.Change(func(s *registry.Settings) error {
		s.ScanOnPush = in.ImageScanningConfiguration.ScanOnPush
		return nil
	})
	if err != nil {
		return nil, c.unknownRepository(err, in.RepositoryName)
	}
	return struct {
		repositoryRef
		ImageScanningConfiguration scanning `json:"imageScanningConfiguration"`
	}{c.ref(desc.Name), scanning{desc.Settings.ScanOnPush}}, nil
}

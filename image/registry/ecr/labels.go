// SPDX-License-Identifier: Apache-2.0

package ecr

import (
	"cmp"
	"slices"
	"strings"

	"thaw.dev/thaw/image/registry"
)

// What AWS allows in a resource tag.
const (
	maxLabels     = 50
	maxKeyBytes   = 128
	maxValueBytes = 256
)

// label is a resource tag; "tag" is a name of an image here.
type label struct {
	Key   string `json:"Key"`
	Value string `json:"Value"`
}

type labelsInput struct {
	ResourceArn string   `json:"resourceArn"`
	Tags        []label  `json:"tags"`
	TagKeys     []string `json:"tagKeys"`
}

func addLabels(s *registry.Settings, labels []label) error {
	for _, l := range labels {
		if l.Key == "" || len(l.Key) > maxKeyBytes || len(l.Value) > maxValueBytes || strings.HasPrefix(strings.ToLower(l.Key), "aws:") {
			return fault("InvalidTagParameterException", "the tag %q is not allowed", clip(l.Key))
		}
		if s.Labels == nil {
			s.Labels = map[string]string{}
		}
		s.Labels[l.Key] = l.Value
	}
	if len(s.Labels) > maxLabels {
		return fault("TooManyTagsException", "a repository has at most %d tags", maxLabels)
	}
	return nil
}

// nameIn returns the repository that an ARN names.
func (c *call) nameIn(arn string) (string, error) {
	name, ok := strings.CutPrefix(arn, c.arn(""))
	if !ok {
		return "", invalid("%q is not the ARN of a repository of this account and region", clip(arn))
	}
	return name, nil
}

func (c *call) changeLabels(arn string, edit func(*registry.Settings) error) (any, error) {
	name, err := c.nameIn(arn)
	if err != nil {
		return nil, err
	}
	w, err := c.writer(repositoryRef{RepositoryName: name})
	if err != nil {
		return nil, err
	}
	if _, err := w.Change(edit); err != nil {
		return nil, c.unknownRepository(err, name)
	}
	return struct{}{}, nil
}

func (c *call) tagResource(in labelsInput) (any, error) {
	return c.changeLabels(in.ResourceArn, func(s *registry.Settings) error { return addLabels(s, in.Tags) })
}

func (c *call) untagResource(in labelsInput) (any, error) {
	return c.changeLabels(in.ResourceArn, func(s *registry.Settings) error {
		for _, key := range in.TagKeys {
			delete(s.Labels, key)
		}
		return nil
	})
}

func (c *call) listTagsForResource(in labelsInput) (any, error) {
	name, err := c.nameIn(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	r, err := c.reader(repositoryRef{RepositoryName: name})
	if err != nil {
		return nil, err
	}
	desc, err := r.Describe()
	if err != nil {
		return nil, c.unknownRepository(err, name)
	}
	labels := []label{}
	for k, v := range desc.Settings.Labels {
		labels = append(labels, label{k, v})
	}
	slices.SortFunc(labels, func(a, b label) int { return cmp.Compare(a.Key, b.Key) })
	return map[string][]label{"tags": labels}, nil
}

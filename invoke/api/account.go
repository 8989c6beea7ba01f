// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"

	"thaw.dev/thaw/invoke/control"
)

func (h *Handler) listTags(c *call) error {
	f, _, err := h.options.Control.Get(c.r.Context(), c.identity.Tenant, c.r.PathValue("function"), "")
	if err != nil {
		return err
	}
	tags := f.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return c.json(http.StatusOK, struct{ Tags map[string]string }{tags})
}

func (h *Handler) tagResource(c *call) error {
	var in struct{ Tags map[string]string }
	if err := c.decode(&in); err != nil {
		return err
	}
	if len(in.Tags) == 0 {
		return refuse(string(control.InvalidParameter), "Tags must hold one tag at least.")
	}
	if err := h.options.Control.Tag(c.r.Context(), c.identity.Tenant, c.r.PathValue("function"), in.Tags, nil); err != nil {
		return err
	}
	return c.noContent()
}

func (h *Handler) untagResource(c *call) error {
	keys := c.r.URL.Query()["tagKeys"]
	if len(keys) == 0 {
		return refuse(string(control.InvalidParameter), "The parameter tagKeys is required.")
	}
	if err := h.options.Control.Tag(c.r.Context(), c.identity.Tenant, c.r.PathValue("function"), nil, keys); err != nil {
		return err
	}
	return c.noContent()
}

// getAccountSettings shows the limits. Code is in the registry and has no
// quota of its own, so those of archives are Lambda's.
func (h *Handler) getAccountSettings(c *call) error {
	count, err := h.options.Control.Count(c.r.Context(), c.identity.Tenant)
	if err != nil {
		return err
	}
	type limit struct {
		TotalCodeSize, CodeSizeUnzipped, CodeSizeZipped int64
		ConcurrentExecutions                            int
		UnreservedConcurrentExecutions                  int
	}
	type usage struct {
		TotalCodeSize int64
		FunctionCount int
	}
	return c.json(http.StatusOK, struct {
		AccountLimit limit
		AccountUsage usage
	}{limit{75 << 30, 250 << 20, 50 << 20, h.options.Concurrency, h.options.Concurrency}, usage{0, count}})
}

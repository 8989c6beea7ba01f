// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"strconv"

	"thaw.dev/thaw/invoke/control"
)

func (h *Handler) createFunction(c *call) error {
	var in functionRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	if in.PackageType == "" && in.Code.ImageUri != "" {
		return refuse(string(control.InvalidParameter), "PackageType must be Image when Code.ImageUri is given.")
	}
	if err := in.refuseUnsupported(); err != nil {
		return err
	}
	f, err := h.options.Control.Create(c.r.Context(), c.identity.Tenant, control.NewFunction{Name: in.FunctionName,
		ImageURI: in.Code.ImageUri, Architectures: in.Architectures, Change: in.change(), Tags: in.Tags})
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, configurationOf(f, h.options.Control.ARN(f.Tenant, f.Name, "")))
}

func (h *Handler) getFunction(c *call) error {
	name, qualifier := c.function()
	f, arn, err := h.options.Control.Get(c.r.Context(), c.identity.Tenant, name, qualifier)
	if err != nil {
		return err
	}
	if err := h.tellOurOwn(c, f); err != nil {
		return err
	}
	return c.json(http.StatusOK, struct {
		Configuration functionConfiguration
		Code          codeLocation
		Tags          map[string]string `json:",omitempty"`
	}{configurationOf(f, arn), locationOf(f.Asked()), f.Tags})
}

func (h *Handler) getFunctionConfiguration(c *call) error {
	name, qualifier := c.function()
	f, arn, err := h.options.Control.Get(c.r.Context(), c.identity.Tenant, name, qualifier)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, configurationOf(f, arn))
}

func (h *Handler) updateFunctionCode(c *call) error {
	var in functionRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	if err := in.refuseUnsupported(); err != nil {
		return err
	}
	f, err := h.options.Control.UpdateCode(c.r.Context(), c.identity.Tenant, control.CodeUpdate{Name: c.r.PathValue("function"),
		ImageURI: in.ImageUri, Architectures: in.Architectures, Revision: in.RevisionId, DryRun: in.DryRun})
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, configurationOf(f, h.options.Control.ARN(f.Tenant, f.Name, "")))
}

func (h *Handler) updateFunctionConfiguration(c *call) error {
	var in functionRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	if err := in.refuseUnsupported(); err != nil {
		return err
	}
	f, err := h.options.Control.UpdateSettings(c.r.Context(), c.identity.Tenant, c.r.PathValue("function"), in.RevisionId, in.change())
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, configurationOf(f, h.options.Control.ARN(f.Tenant, f.Name, "")))
}

func (h *Handler) deleteFunction(c *call) error {
	name, qualifier := c.function()
	if err := h.options.Control.Delete(c.r.Context(), c.identity.Tenant, name, qualifier); err != nil {
		return err
	}
	return c.noContent()
}

// maxItems reads the parameter of that name, at most 10,000 as at Lambda.
func (c *call) maxItems() (int, error) {
	text := c.r.URL.Query().Get("MaxItems")
	if text == "" {
		return 50, nil
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return 0, refuse(badType, "The parameter 'MaxItems' must be a number.")
	case n < 1:
		return 0, control.Violation(text, "maxItems", "Member must have value greater than or equal to 1")
	case n > 10_000:
		return 0, control.Violation(text, "maxItems", "Member must have value less than or equal to 10000")
	}
	return n, nil
}

type functionList struct {
	Functions  []functionConfiguration
	NextMarker string `json:",omitempty"`
}

func (h *Handler) listFunctions(c *call) error {
	query := c.r.URL.Query()
	n, err := c.maxItems()
	if err != nil {
		return err
	}
	version, region := query.Get("FunctionVersion"), query.Get("MasterRegion")
	if version != "" && version != "ALL" {
		return control.Violation(version, "functionVersion", "Member must satisfy enum value set: [ALL]")
	}
	if region != "" {
		if version == "" {
			return refuse(string(control.InvalidParameter), "FunctionVersion must be ALL where MasterRegion is given.")
		}
		// It asks for the replicas of Lambda@Edge only, and there are none.
		return c.json(http.StatusOK, functionList{Functions: []functionConfiguration{}})
	}
	functions, next, err := h.options.Control.List(c.r.Context(), c.identity.Tenant, query.Get("Marker"), n)
	if err != nil {
		return err
	}
	qualifier := ""
	if version == "ALL" {
		qualifier = control.Latest
	}
	list := functionList{Functions: make([]functionConfiguration, len(functions)), NextMarker: next}
	for i, f := range functions {
		list.Functions[i] = configurationOf(f, h.options.Control.ARN(f.Tenant, f.Name, qualifier))
	}
	return c.json(http.StatusOK, list)
}

// listVersions shows the one version there is.
func (h *Handler) listVersions(c *call) error {
	f, arn, err := h.options.Control.Get(c.r.Context(), c.identity.Tenant, c.r.PathValue("function"), control.Latest)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, struct{ Versions []functionConfiguration }{[]functionConfiguration{configurationOf(f, arn)}})
}

// listAliases shows that there are none, of a function that exists.
func (h *Handler) listAliases(c *call) error {
	if _, _, err := h.options.Control.Get(c.r.Context(), c.identity.Tenant, c.r.PathValue("function"), ""); err != nil {
		return err
	}
	return c.json(http.StatusOK, struct{ Aliases []struct{} }{[]struct{}{}})
}

// getConcurrency shows that none is reserved, for a function that exists.
func (h *Handler) getConcurrency(c *call) error {
	if _, _, err := h.options.Control.Get(c.r.Context(), c.identity.Tenant, c.r.PathValue("function"), ""); err != nil {
		return err
	}
	return c.json(http.StatusOK, struct{}{})
}

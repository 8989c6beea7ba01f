// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
)

// supported lists the operations that are served. Paths and methods are those
// of the SDKs' model.
func supported() []operation {
	const function = "/2015-03-31/functions/{function}"
	return []operation{
		{"CreateFunction", "POST", "/2015-03-31/functions", (*Handler).createFunction},
		{"ListFunctions", "GET", "/2015-03-31/functions", (*Handler).listFunctions},
		{"GetFunction", "GET", function, (*Handler).getFunction},
		{"DeleteFunction", "DELETE", function, (*Handler).deleteFunction},
		{"GetFunctionConfiguration", "GET", function + "/configuration", (*Handler).getFunctionConfiguration},
		{"UpdateFunctionConfiguration", "PUT", function + "/configuration", (*Handler).updateFunctionConfiguration},
		{"UpdateFunctionCode", "PUT", function + "/code", (*Handler).updateFunctionCode},
		{"Invoke", "POST", function + "/invocations", (*Handler).invoke},
		{"ListVersionsByFunction", "GET", function + "/versions", (*Handler).listVersions},
		{"ListAliases", "GET", function + "/aliases", (*Handler).listAliases},
		{"GetFunctionConcurrency", "GET", "/2019-09-30/functions/{function}/concurrency", (*Handler).getConcurrency},
		{"ListTags", "GET", "/2017-03-31/tags/{function}", (*Handler).listTags},
		{"TagResource", "POST", "/2017-03-31/tags/{function}", (*Handler).tagResource},
		{"UntagResource", "DELETE", "/2017-03-31/tags/{function}", (*Handler).untagResource},
		{"GetAccountSettings", "GET", "/2016-08-19/account-settings", (*Handler).getAccountSettings},
	}
}

// unknownOperation refuses what is no operation of Lambda at all.
func unknownOperation(_ *Handler, c *call) error {
	return refuse(unknownRoute, "There is no operation %s %.200s.", c.r.Method, c.r.URL.Path)
}

// notSupported refuses an operation that Lambda has and this server has not:
// 501, which no SDK retries.
func notSupported(_ *Handler, c *call) error {
	return refuse(notImplemented, "This server does not support the operation %s.", c.operation)
}

// noContent answers that all is done and there is nothing to say.
func (c *call) noContent() error {
	c.WriteHeader(http.StatusNoContent)
	return nil
}

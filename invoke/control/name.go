// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"regexp"

	thaw "thaw.dev/thaw"
)

const (
	// maxName is the length of a bare name, maxFullName that of any form;
	// Lambda's limits.
	maxName     = 64
	maxFullName = 170
)

// namePattern is Lambda's, and its groups. The text is part of messages.
const namePattern = `(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?`

var nameExpression = regexp.MustCompile(`^` + namePattern + `$`)

// The groups of namePattern that matter.
const (
	groupRegion    = 3
	groupTenant    = 8
	groupName      = 10
	groupQualifier = 12
)

// name is a function's name as a request gives it, taken apart.
type name struct {
	bare, qualifier string
}

// parseName reads a bare name, NAME:QUALIFIER, an ARN or a part of one, for a
// request of tenant; qualifier is what the request gives besides. A name in
// another account is [thaw.NotFound], whether it exists or not.
func (c *Control) parseName(op string, tenant thaw.TenantID, text, qualifier string) (name, error) {
	if isBare(text) {
		return name{text, qualifier}, checkQualifier(op, qualifier)
	}
	groups := nameExpression.FindStringSubmatch(text)
	if groups == nil || len(text) > maxFullName {
		return name{}, validationError(op, nameViolation(text))
	}
	n := name{groups[groupName], groups[groupQualifier]}
	if len(n.bare) > maxName {
		return name{}, validationError(op, nameViolation(n.bare))
	}
	if owner := groups[groupTenant]; owner != "" && owner != string(tenant)+":" {
		return name{}, problem(op, thaw.NotFound, ResourceNotFound, "Function not found: %s", text)
	}
	if region := groups[groupRegion]; region != "" && region != c.options.Region+":" {
		return name{}, problem(op, thaw.NotFound, ResourceNotFound,
			"Functions from '%s' are not reachable in this region ('%s')", region[:len(region)-1], c.options.Region)
	}
	if n.qualifier != "" && qualifier != "" && n.qualifier != qualifier {
		return name{}, invalid(op, "The derived qualifier from the function name does not match the specified qualifier.")
	}
	if n.qualifier == "" {
		n.qualifier = qualifier
	}
	return n, checkQualifier(op, n.qualifier)
}

// nameViolation words what is wrong with a name.
func nameViolation(text string) string {
	switch {
	case text == "":
		return violation(text, "functionName", "Member must have length greater than or equal to 1")
	case nameExpression.MatchString(text):
		limit := maxName
		if !isBareText(text) {
			limit = maxFullName
		}
		return violation(text, "functionName", fmt.Sprintf("Member must have length less than or equal to %d", limit))
	}
	return violation(text, "functionName", "Member must satisfy regular expression pattern: "+namePattern)
}

// isBare reports whether text is a valid bare name. It spares the usual case
// the regular expression.
func isBare(text string) bool {
	return text != "" && len(text) <= maxName && isBareText(text)
}

func isBareText(text string) bool {
	for _, c := range []byte(text) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// checkQualifier refuses what is no qualifier at all. One that names no
// version is for the caller to miss.
func checkQualifier(op, qualifier string) error {
	if qualifier == "" || qualifier == Latest || len(qualifier) <= 128 && isBareText(qualifier) {
		return nil
	}
	return validationError(op, violation(qualifier, "qualifier",
		`Member must satisfy regular expression pattern: (|[a-zA-Z0-9$_-]+)`))
}

func (c *Control) notFound(op string, tenant thaw.TenantID, n name) error {
	return problem(op, thaw.NotFound, ResourceNotFound, "Function not found: %s", c.ARN(tenant, n.bare, n.qualifier))
}

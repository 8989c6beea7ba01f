// SPDX-License-Identifier: Apache-2.0

package thaw

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
)

// Tell returns err's line as a tenant may read it: without the paths, the
// addresses and the programs of this host that errors of the operating system
// name. Whatever goes to a tenant and was not worded for tenants goes through it.
func Tell(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	walk(err, func(e error) {
		if plain, ok := withoutHost(e); ok {
			text = strings.ReplaceAll(text, e.Error(), plain)
		}
	})
	return text
}

// withoutHost is what remains of an error that names something of the host. A
// target that a tenant named is in the words around it.
func withoutHost(err error) (string, bool) {
	switch e := err.(type) { //nolint:errorlint // walk visits the whole chain
	case *fs.PathError:
		return e.Err.Error(), true
	case *os.LinkError:
		return e.Err.Error(), true
	case *os.SyscallError:
		return e.Err.Error(), true
	case *exec.Error:
		return e.Err.Error(), true
	case *net.DNSError:
		return "lookup " + e.Name + ": " + e.Err, true // without the name server
	case *net.OpError:
		if e.Err == nil {
			return e.Op, true
		}
		return e.Op + ": " + e.Err.Error(), true
	}
	return "", false
}

// walk calls visit for err and all that it wraps, the outermost first.
func walk(err error, visit func(error)) {
	if err == nil {
		return
	}
	visit(err)
	switch e := err.(type) { //nolint:errorlint // it is what unwraps
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			walk(one, visit)
		}
	default:
		walk(errors.Unwrap(err), visit)
	}
}

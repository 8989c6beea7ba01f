// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw.dev/thaw"
)

// megabytes is a size in MB: a number, or one with its unit.
type megabytes int32

// UnmarshalText reads 512, 512M, 512MB, 1G, 1GB; the units are powers of 1024, as
// Lambda's MB are.
func (m *megabytes) UnmarshalText(text []byte) error {
	number := strings.ToUpper(strings.TrimSpace(string(text)))
	unit := int64(1)
	number = strings.TrimSuffix(strings.TrimSuffix(number, "IB"), "B")
	if rest, ok := strings.CutSuffix(number, "G"); ok {
		number, unit = rest, 1024
	} else {
		number = strings.TrimSuffix(number, "M")
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
	if err != nil || n*unit > math.MaxInt32 || n < 1 {
		return fmt.Errorf("%q is no size: give MB, as in 512 or 1G", text)
	}
	*m = megabytes(n * unit)
	return nil
}

// seconds is a time in whole seconds: a number, or one with its unit.
type seconds int32

// UnmarshalText reads 20, 20s, 2m, 1m30s.
func (s *seconds) UnmarshalText(text []byte) error {
	if n, err := strconv.ParseInt(string(text), 10, 32); err == nil && n > 0 {
		*s = seconds(n)
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d < time.Second || d%time.Second != 0 || d > math.MaxInt32*time.Second {
		return fmt.Errorf("%q is no time in whole seconds: give 20, 20s or 2m", text)
	}
	*s = seconds(d / time.Second)
	return nil
}

// settings are those flags of thaw deploy that are a function's settings. What is
// not named stays as it is.
type settings struct {
	Memory  *megabytes `help:"Memory in MB (or 1G), 128 to 10240; CPU is given in proportion." placeholder:"MB"`
	Timeout *seconds   `help:"Time limit of an invocation, 1s to 15m; a bare number is seconds." placeholder:"3s"`
	Env     []string   `help:"K=V sets an environment variable, K- removes it; the others stay. May be repeated." placeholder:"K=V|K-" sep:"none"`
}

func (s *settings) named() bool { return s.Memory != nil || s.Timeout != nil || len(s.Env) > 0 }

// environment returns have with the changes of --env.
func (s *settings) environment(have map[string]string) (*types.Environment, error) {
	variables := maps.Clone(have)
	if variables == nil {
		variables = map[string]string{}
	}
	for _, change := range s.Env {
		name, value, sets := strings.Cut(change, "=")
		removed, removes := strings.CutSuffix(change, "-")
		switch {
		case sets && name != "":
			variables[name] = value
		case !sets && removes && removed != "":
			delete(variables, removed)
		default:
			return nil, thaw.Errorf("", thaw.Invalid, "--env %s: give NAME=VALUE to set a variable, NAME- to remove it", change)
		}
	}
	return &types.Environment{Variables: variables}, nil
}

// create completes a request to create a function.
func (s *settings) create(in *lambda.CreateFunctionInput) (err error) {
	in.MemorySize, in.Timeout = (*int32)(s.Memory), (*int32)(s.Timeout)
	if len(s.Env) > 0 {
		in.Environment, err = s.environment(nil)
	}
	return err
}

// update is the request to change what was named of a function's settings. It is
// refused if the function changes meanwhile, which keeps another's variables.
func (s *settings) update(have *lambda.GetFunctionConfigurationOutput) (in *lambda.UpdateFunctionConfigurationInput, err error) {
	in = &lambda.UpdateFunctionConfigurationInput{
		FunctionName: have.FunctionName, RevisionId: have.RevisionId,
		MemorySize: (*int32)(s.Memory), Timeout: (*int32)(s.Timeout),
	}
	if len(s.Env) > 0 {
		var variables map[string]string
		if have.Environment != nil {
			variables = have.Environment.Variables
		}
		in.Environment, err = s.environment(variables)
	}
	return in, err
}

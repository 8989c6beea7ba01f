// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/invoke/program"
)

// Limits of Lambda's API.
const (
	minMemoryMB      = 128
	maxMemoryMB      = 10240
	maxTimeout       = 900 // seconds
	minEphemeralMB   = 512
	maxEphemeralMB   = 10240
	maxDescription   = 256
	maxEnvironment   = 4096 // bytes of the variables as JSON
	maxArguments     = 1500 // of EntryPoint and of Command
	maxDirectory     = 1000
	maxTags          = 50
	maxTagKey        = 128
	maxTagValue      = 256
	maxLogGroup      = 512
	defaultTimeout   = 3
	defaultMemoryMB  = 128
	defaultEphemeral = 512

	logFormatText   = "Text"
	logFormatJSON   = "JSON"
	defaultLogLevel = "INFO" // of JSON
)

const (
	rolePattern     = `arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`
	variablePattern = `[a-zA-Z]([a-zA-Z0-9_])+`
	logGroupPattern = `[\.\-_/#A-Za-z0-9]+`
)

var (
	roleExpression     = regexp.MustCompile(`^` + rolePattern + `$`)
	variableExpression = regexp.MustCompile(`^` + variablePattern + `$`)
	logGroupExpression = regexp.MustCompile(`^` + logGroupPattern + `$`)
)

// violation words one broken constraint as Lambda does.
func violation(value, member, constraint string) string {
	const most = 256 // of the sender's words to repeat
	if len(value) > most {
		value = value[:most] + "..."
	}
	return fmt.Sprintf("Value '%s' at '%s' failed to satisfy constraint: %s", value, member, constraint)
}

// validationError joins violations as Lambda does; none is no error.
func validationError(op string, violations ...string) error {
	switch len(violations) {
	case 0:
		return nil
	case 1:
		return problem(op, thaw.Invalid, FailedValidation, "1 validation error detected: %s", violations[0])
	}
	return problem(op, thaw.Invalid, FailedValidation, "%d validation errors detected: %s",
		len(violations), strings.Join(violations, "; "))
}

// Violation returns the error for one broken constraint of a request, worded
// as Lambda does, for what is not checked here.
func Violation(value, member, constraint string) error {
	return validationError("", violation(value, member, constraint))
}

// defaultSettings are what a function has that says nothing.
func defaultSettings(name string) Settings {
	return Settings{TimeoutSeconds: defaultTimeout, MemoryMB: defaultMemoryMB, EphemeralMB: defaultEphemeral,
		Tracing: "PassThrough", Logging: Logging{LogFormat: logFormatText, LogGroup: "/aws/lambda/" + name}}
}

// validate checks all settings of one function, as they are going to be.
func (s *Settings) validate(op string) error {
	var broken []string
	between := func(member string, value, low, high int) {
		if value < low {
			broken = append(broken, violation(fmt.Sprint(value), member, fmt.Sprintf("Member must have value greater than or equal to %d", low)))
		}
		if value > high {
			broken = append(broken, violation(fmt.Sprint(value), member, fmt.Sprintf("Member must have value less than or equal to %d", high)))
		}
	}
	atMost := func(member, value string, length, high int) {
		if length > high {
			broken = append(broken, violation(value, member, fmt.Sprintf("Member must have length less than or equal to %d", high)))
		}
	}
	matches := func(member, value string, expression *regexp.Regexp, pattern string) {
		if !expression.MatchString(value) {
			broken = append(broken, violation(value, member, "Member must satisfy regular expression pattern: "+pattern))
		}
	}
	oneOf := func(member, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			broken = append(broken, violation(value, member, "Member must satisfy enum value set: ["+strings.Join(allowed, ", ")+"]"))
		}
	}
	between("timeout", s.TimeoutSeconds, 1, maxTimeout)
	between("memorySize", s.MemoryMB, minMemoryMB, maxMemoryMB)
	between("ephemeralStorage.size", s.EphemeralMB, minEphemeralMB, maxEphemeralMB)
	atMost("description", s.Description, len([]rune(s.Description)), maxDescription)
	matches("role", s.Role, roleExpression, rolePattern)
	atMost("imageConfig.entryPoint", fmt.Sprint(s.ImageConfig.EntryPoint), len(s.ImageConfig.EntryPoint), maxArguments)
	atMost("imageConfig.command", fmt.Sprint(s.ImageConfig.Command), len(s.ImageConfig.Command), maxArguments)
	atMost("imageConfig.workingDirectory", s.ImageConfig.WorkingDirectory, len(s.ImageConfig.WorkingDirectory), maxDirectory)
	oneOf("tracingConfig.mode", s.Tracing, "Active", "PassThrough")
	oneOf("loggingConfig.logFormat", s.Logging.LogFormat, logFormatJSON, logFormatText)
	oneOf("loggingConfig.applicationLogLevel", s.Logging.ApplicationLogLevel, "", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
	oneOf("loggingConfig.systemLogLevel", s.Logging.SystemLogLevel, "", "DEBUG", "INFO", "WARN")
	matches("loggingConfig.logGroup", s.Logging.LogGroup, logGroupExpression, logGroupPattern)
	atMost("loggingConfig.logGroup", s.Logging.LogGroup, len(s.Logging.LogGroup), maxLogGroup)
	for _, key := range slices.Sorted(maps.Keys(s.Environment)) {
		if !variableExpression.MatchString(key) {
			broken = append(broken, violation(key, "environment.variables",
				"Map keys must satisfy constraint: [Member must satisfy regular expression pattern: "+variablePattern+"]"))
		}
	}
	if err := validationError(op, broken...); err != nil {
		return err
	}
	return s.validateProcess(op)
}

// validateProcess checks what would keep the process from being started.
func (s *Settings) validateProcess(op string) error {
	var reserved []string
	for _, key := range program.Reserved() {
		if _, used := s.Environment[key]; used {
			reserved = append(reserved, key)
		}
	}
	if reserved != nil {
		return invalid(op, "Lambda was unable to configure your environment variables because the environment variables "+
			"you have provided contains reserved keys that are currently not supported for modification. "+
			"Reserved keys used in this request: %s", strings.Join(reserved, ", "))
	}
	encoded, err := json.Marshal(s.Environment)
	if err != nil {
		return thaw.Wrap(op, err)
	}
	if len(s.Environment) > 0 && len(encoded) > maxEnvironment {
		return invalid(op, "Lambda was unable to configure your environment variables because the environment variables "+
			"you have provided exceeded the 4KB limit. They measure %d bytes as JSON.", len(encoded))
	}
	for key, value := range s.Environment {
		if strings.ContainsRune(value, 0) {
			return invalid(op, "The value of the environment variable %s contains a NUL character.", key)
		}
	}
	if err := program.Check(slices.Concat(s.ImageConfig.EntryPoint, s.ImageConfig.Command), nil); err != nil {
		return invalid(op, "ImageConfig can't be used: %v.", err)
	}
	if s.Logging.LogFormat == logFormatText && (s.Logging.ApplicationLogLevel != "" || s.Logging.SystemLogLevel != "") {
		return invalid(op, "ApplicationLogLevel and SystemLogLevel can be set only where LogFormat is JSON.")
	}
	if strings.ContainsRune(s.ImageConfig.WorkingDirectory, 0) {
		return invalid(op, "ImageConfig.WorkingDirectory contains a NUL character.")
	}
	if dir := s.ImageConfig.WorkingDirectory; dir != "" && !path.IsAbs(dir) {
		return invalid(op, "ImageConfig.WorkingDirectory must be an absolute path, not '%s'.", dir)
	}
	return nil
}

func validateTags(op string, tags map[string]string) error {
	if len(tags) > maxTags {
		return invalid(op, "A function can have %d tags at most.", maxTags)
	}
	for key, value := range tags {
		switch {
		case key == "" || len([]rune(key)) > maxTagKey:
			return invalid(op, "A tag's key must have 1 to %d characters.", maxTagKey)
		case len([]rune(value)) > maxTagValue:
			return invalid(op, "The value of tag '%s' has more than %d characters.", key, maxTagValue)
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return invalid(op, "Tag keys starting with 'aws:' are reserved for internal use.")
		}
	}
	return nil
}

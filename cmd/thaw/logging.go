// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"sync"
)

// logFlags say how the server and the two processes that it starts log.
type logFlags struct {
	JSONLog bool `name:"json-log" help:"Log JSON, one object a line, from all of its processes."`
	Verbose bool `short:"v" help:"Log each request and each start."`
}

// logger makes the process's logger, which libraries that log by themselves
// write to as well.
func (f logFlags) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if f.Verbose {
		options.Level = slog.LevelDebug
	}
	var handler slog.Handler = slog.NewTextHandler(w, options)
	if f.JSONLog {
		handler = slog.NewJSONHandler(w, options)
	}
	log := slog.New(handler)
	slog.SetDefault(log)
	return log
}

// args are the flags for a process that is started.
func (f logFlags) args() []string {
	var args []string
	if f.JSONLog {
		args = append(args, "--json-log")
	}
	if f.Verbose {
		args = append(args, "--verbose")
	}
	return args
}

// wantsJSON reports whether a command line that could not be carried out asked
// for a log of JSON.
func wantsJSON(args []string) bool { return slices.Contains(args, "--json-log") }

// jsonLines passes on records of JSON, and makes a record of each line that is
// none: a command's last words, what a library prints, the crash of a child.
type jsonLines struct {
	raw io.Writer
	log *slog.Logger

	mu      sync.Mutex // guards partial, and keeps lines whole
	partial []byte
}

func newJSONLines(raw io.Writer) *jsonLines {
	return &jsonLines{raw: raw, log: slog.New(slog.NewJSONHandler(raw, nil))}
}

// maxPartial bounds a line without an end.
const maxPartial = 64 << 10

// Write takes any part of the output. It never fails: a process must not die of
// a log that nobody takes.
func (j *jsonLines) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.partial = append(j.partial, p...)
	for {
		line, rest, ended := bytes.Cut(j.partial, []byte{'\n'})
		if !ended && len(line) < maxPartial {
			break
		}
		switch {
		case json.Valid(line) && bytes.HasPrefix(line, []byte{'{'}):
			_, _ = j.raw.Write(append(bytes.Clone(line), '\n'))
		case len(bytes.TrimSpace(line)) > 0:
			j.log.Error(string(line))
		}
		j.partial = append(j.partial[:0], rest...)
	}
	return len(p), nil
}

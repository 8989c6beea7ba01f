// SPDX-License-Identifier: Apache-2.0

package memcached

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"

	"thaw.dev/thaw"
)

// What ends a connection beside the network: after any of them the place of the
// next answer in the stream is unknown.
var (
	errUnasked  = errors.New("an answer that nobody asked for")
	errGarbled  = errors.New("an answer that makes no sense")
	errTooLong  = errors.New("a value or a line longer than any that was stored")
	errNotEnded = errors.New("a value that is longer than its length")
)

var crlf = []byte("\r\n")

// maxReplyLines bounds the lines of one answer; stats has about 70.
const maxReplyLines = 1000

// setSuffix is what follows the key of a set. There is no time to live: the
// server evicts what has not been used for longest.
func setSuffix(bytes int) string { return " " + strconv.Itoa(bytes) + "\r\n" }

// readLine returns the next line without its end; it is valid until the next
// read.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, errTooLong
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// parseValueLine reads the line that answers a get: "VA <bytes>" and flags, "EN"
// for a miss, or that the server can't answer.
func parseValueLine(line []byte) (size int, o Outcome, err error) {
	text := string(line)
	digits, isValue := strings.CutPrefix(text, "VA ")
	switch {
	case text == "EN":
		return 0, Miss, nil
	case isValue:
		digits, _, _ = strings.Cut(digits, " ")
		n, err := strconv.ParseUint(digits, 10, 31)
		if err != nil {
			return 0, Failed, errGarbled
		}
		return int(n), Hit, nil
	case text == "ERROR", strings.HasPrefix(text, "CLIENT_ERROR"), strings.HasPrefix(text, "SERVER_ERROR"):
		return 0, Failed, nil
	}
	return 0, Failed, errGarbled
}

// readReply reads the lines of an answer of which line is the first.
func readReply(r *bufio.Reader, line []byte) (reply, error) {
	var full reply
	for bytes.HasPrefix(line, []byte("STAT ")) {
		if len(full.stats) == maxReplyLines {
			return full, errTooLong
		}
		full.stats = append(full.stats, string(line))
		var err error
		if line, err = readLine(r); err != nil {
			return full, err
		}
	}
	full.line = string(line)
	return full, nil
}

func parseStats(lines []string) map[string]string {
	stats := map[string]string{}
	for _, line := range lines {
		if name, value, ok := strings.Cut(strings.TrimPrefix(line, "STAT "), " "); ok {
			stats[name] = value
		}
	}
	return stats
}

// refusal is nil where the server answered as wanted, and says what it said
// instead otherwise.
func refusal(op, line, wanted string) error {
	switch {
	case line == wanted:
		return nil
	case strings.Contains(line, "too large"):
		return thaw.Errorf(op, thaw.TooLarge, "the server says %q: raise its -I", line)
	}
	return thaw.Errorf(op, thaw.Internal, "the server says %q", line)
}

func readCRLF(r *bufio.Reader) error {
	end, err := r.Peek(len(crlf))
	if err != nil {
		return err
	}
	if !bytes.Equal(end, crlf) {
		return errNotEnded
	}
	_, err = r.Discard(len(crlf))
	return err
}

// scratch is where bytes go that nobody wants, in pieces as large as a stripe.
var scratch = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

func discard(r io.Reader, n int) error {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	for n > 0 {
		read, err := io.ReadFull(r, (*buf)[:min(n, len(*buf))])
		if err != nil {
			return err
		}
		n -= read
	}
	return nil
}

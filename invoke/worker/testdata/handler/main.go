// Handler is a Lambda function of the real client, aws-lambda-go, that does what
// a test asks of it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Do     string
	Text   string
	Bytes  int
	Millis int
	Code   int
}

type answer struct {
	Pid         int
	Text        string
	RequestID   string
	ARN         string
	Client      map[string]string
	LeftMillis  int64
	TraceID     string
	Environment []string
}

func main() {
	if os.Getenv("BARE") != "" {
		bare()
	}
	if os.Getenv("HOG") != "" {
		hog()
	}
	fmt.Println("init")
	if code := os.Getenv("INIT_EXIT"); code != "" {
		fmt.Fprintln(os.Stderr, "init fails")
		os.Exit(int(code[0] - '0'))
	}
	if once := os.Getenv("INIT_SLOW_ONCE"); once != "" {
		if os.Mkdir(once, 0o700) == nil {
			time.Sleep(time.Minute)
		}
	}
	if os.Getenv("INIT_SLOW") != "" {
		time.Sleep(time.Minute)
	}
	lambda.Start(handle)
}

// bare is the yardstick of the benchmark: the same handler behind net/http.
func bare() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := handle(r.Context(), e)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(out)
	})))
}

// hog takes memory until it is killed.
func hog() {
	var held [][]byte
	for {
		page := make([]byte, 1<<20)
		for i := 0; i < len(page); i += 4096 {
			page[i] = 1
		}
		held = append(held, page)
		runtime.KeepAlive(held)
	}
}

func handle(ctx context.Context, e event) (answer, error) {
	time.Sleep(time.Duration(e.Millis) * time.Millisecond)
	out := answer{Pid: os.Getpid(), Text: e.Text}
	switch e.Do {
	case "error":
		return out, errors.New(e.Text)
	case "panic":
		panic(e.Text)
	case "exit":
		os.Exit(e.Code)
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Minute)
	case "memory":
		hog()
	case "child memory":
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), "HOG=1")
		out.Text = fmt.Sprint(child.Run())
		if e.Code > 0 {
			os.Exit(e.Code)
		}
	case "hang":
		time.Sleep(time.Minute)
	case "print":
		fmt.Println(e.Text)
		fmt.Fprint(os.Stderr, "without an end")
	case "big":
		out.Text = strings.Repeat("x", e.Bytes)
	case "late exit":
		go func() {
			time.Sleep(50 * time.Millisecond)
			os.Exit(e.Code)
		}()
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		out.RequestID, out.ARN = lc.AwsRequestID, lc.InvokedFunctionArn
		out.Client, out.LeftMillis = lc.ClientContext.Custom, time.Until(deadline).Milliseconds()
		out.TraceID = os.Getenv("_X_AMZN_TRACE_ID")
		out.Environment = os.Environ()
	}
	return out, nil
}

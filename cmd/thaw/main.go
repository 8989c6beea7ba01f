// Command thaw runs functions packaged as container images: the server in all
// its roles, and the tools for the people who use it. This package is the only
// place that wires the paths together; one file holds one subcommand, and its
// help is its documentation.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"thaw.dev/thaw"
)

// version is set by the linker to what git describes.
var version = "unknown"

// The exit codes, as documented in the help.
const (
	exitOK       = 0
	exitFailed   = 1 // the command failed; the reason is on standard error
	exitUsage    = 2 // the command line is wrong
	exitFunction = 3 // thaw invoke: the function itself reported an error
)

const description = `Lambda for containers, on machines that you own.

Start a server, point your tools at it, and use them as you are used to:

  thaw serve --data /var/lib/thaw &
  eval "$(thaw env)" && thaw login
  docker push 127.0.0.1:9800/hello:v1
  aws lambda create-function --function-name hello --package-type Image \
    --code ImageUri=127.0.0.1:9800/hello:v1 --role arn:aws:iam::000000000000:role/any
  aws lambda invoke --function-name hello out.json

Exit status: 0 done, 1 failed, 2 wrong usage, 3 the invoked function reported an error.`

// cli is the command line: one field a subcommand.
type cli struct {
	Serve    serveCmd    `cmd:"" help:"Run the server: API, registry, worker and store, and the loader behind the mounts."`
	Deploy   deployCmd   `cmd:"" help:"Create a function from an image, or update it."`
	Invoke   invokeCmd   `cmd:"" help:"Invoke a function and print what it answers."`
	Ls       lsCmd       `cmd:"" help:"List functions."`
	Rm       rmCmd       `cmd:"" help:"Delete functions."`
	Logs     logsCmd     `cmd:"" help:"Print what a function has logged."`
	Trace    traceCmd    `cmd:"" help:"Show where an invocation's time went, as a waterfall."`
	Image    imageCmd    `cmd:"" help:"Look into images."`
	Cache    cacheCmd    `cmd:"" help:"Show or drop the caches of chunks."`
	Tenant   tenantCmd   `cmd:"" help:"Manage tenants: accounts that own functions, repositories and keys."`
	Registry registryCmd `cmd:"" help:"Manage a tenant's logins at other registries."`
	Env      envCmd      `cmd:"" help:"Print the environment that makes the AWS CLI and SDKs use this server."`
	Login    loginCmd    `cmd:"" help:"Log docker, podman, buildah, skopeo and crane in to the registry."`

	Loader loaderCmd `cmd:"" hidden:"" help:"The process behind the mounts; thaw serve starts it."`
	Holder holderCmd `cmd:"" hidden:"" help:"The process that keeps the mounts alive; thaw serve starts it."`

	Version kong.VersionFlag `help:"Print the version."`
}

// streams is where a subcommand reads and writes; tests give their own.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run parses and runs one command line and returns the exit status.
func run(ctx context.Context, args []string, std streams) int {
	var c cli
	exited := false
	parser, err := kong.New(&c, kong.Name("thaw"), kong.Description(description),
		kong.UsageOnError(), kong.Writers(std.out, std.err),
		kong.Exit(func(int) { exited = true }),
		kong.Vars{"version": version}, kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(std))
	if err != nil {
		fmt.Fprintln(std.err, "thaw:", err)
		return exitFailed
	}
	parsed, err := parser.Parse(args)
	if exited {
		return exitOK
	}
	if err != nil {
		fmt.Fprintln(std.err, "thaw:", err)
		fmt.Fprintln(std.err, "Run \"thaw --help\", or \"thaw COMMAND --help\".")
		return exitUsage
	}
	err = parsed.Run()
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFunction):
		return exitFunction
	}
	fmt.Fprintln(std.err, "thaw:", err)
	if thaw.KindOf(err) == thaw.Invalid {
		return exitUsage
	}
	return exitFailed
}

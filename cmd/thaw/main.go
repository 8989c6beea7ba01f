// SPDX-License-Identifier: Apache-2.0

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
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"thaw.dev/thaw"
)

// version is set by the linker to what git describes.
var version = "unknown"

// The exit codes, as documented in the help. An interrupted command ends with
// 128 and the signal's number, as in a shell.
const (
	exitOK       = 0
	exitFailed   = 1 // the command failed or was refused; the reason is on standard error
	exitUsage    = 2 // the command line is wrong; no server was asked to do anything
	exitFunction = 3 // thaw invoke: the function itself reported an error
	exitSignal   = 128
)

const description = `Lambda for containers, on machines that you own.

Start a server, point your tools at it, and use them as you are used to:

  thaw serve --data /var/lib/thaw &
  eval "$(thaw env)" && thaw login
  docker push 127.0.0.1:9800/hello:v1
  aws lambda create-function --function-name hello --package-type Image \
    --code ImageUri=127.0.0.1:9800/hello:v1 --role arn:aws:iam::000000000000:role/any
  aws lambda invoke --function-name hello out.json

Exit status: 0 done; 1 failed, or refused by the server; 2 wrong usage, nothing was
done; 3 the invoked function reported an error; 130 interrupted (ctrl-C), 143 ended by
SIGTERM. Results go to standard output, everything else to standard error.

Which server: a flag (--data, --endpoint) wins over THAW_DATA and THAW_ENDPOINT, these
win over AWS_ENDPOINT_URL, and that over /var/lib/thaw. "thaw env" sets all that the
commands need. Two that contradict each other are refused.`

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

	Help        helpCmd    `cmd:"" help:"Show the help of a command."`
	ShowVersion versionCmd `cmd:"" name:"version" help:"Print the version."`

	Loader loaderCmd `cmd:"" hidden:"" help:"The process behind the mounts; thaw serve starts it."`
	Holder holderCmd `cmd:"" hidden:"" help:"The process that keeps the mounts alive; thaw serve starts it."`

	Ingest ingestCmd `cmd:"" hidden:"" help:"The process that makes an image; thaw serve starts it."`

	Version kong.VersionFlag `help:"Print the version."`
}

// streams is where a subcommand reads and writes; tests give their own.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	ctx, stop := untilSignal(context.Background())
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// signaled is why the context of a command ended.
type signaled struct{ signal syscall.Signal }

func (s signaled) Error() string { return s.signal.String() }

// untilSignal returns a context that ends at the first SIGINT or SIGTERM.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			cancel(signaled{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// run parses and runs one command line and returns the exit status.
func run(ctx context.Context, args []string, std streams) int {
	if wantsJSON(args) {
		std.err = newJSONLines(std.err)
	}
	var c cli
	exited := false
	parser, err := kong.New(&c, kong.Name("thaw"), kong.Description(description), kong.Writers(std.out, std.err),
		kong.Exit(func(int) { exited = true }),
		kong.Vars{"version": version}, kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(std))
	if err != nil {
		fmt.Fprintln(std.err, "thaw:", err)
		return exitFailed
	}
	parsed, err := parser.Parse(asHelp(parser, args))
	if exited {
		return exitOK
	}
	if err == nil {
		err = refuseEmpty(parsed)
	}
	if err != nil {
		fmt.Fprintln(std.err, "thaw:", err)
		fmt.Fprintln(std.err, "Run \"thaw --help\", or \"thaw COMMAND --help\".")
		return exitUsage
	}
	return exitStatus(ctx, parsed.Run(), std)
}

// refuseEmpty refuses an argument that is "", as an unset variable of a script is.
func refuseEmpty(parsed *kong.Context) error {
	for _, p := range parsed.Path {
		if p.Positional == nil {
			continue
		}
		words, isList := p.Positional.Target.Interface().([]string)
		if !isList {
			words = []string{fmt.Sprint(p.Positional.Target)}
		}
		if slices.Contains(words, "") {
			return fmt.Errorf("the argument %s is empty", p.Positional.Summary())
		}
	}
	return nil
}

// exitStatus says why a command failed and returns its exit status.
func exitStatus(ctx context.Context, err error, std streams) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFunction):
		return exitFunction
	}
	if s, ok := errors.AsType[signaled](context.Cause(ctx)); ok {
		if said, ok := errors.AsType[*thaw.Error](err); !ok || said.Kind != thaw.Canceled {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(std.err, "thaw:", err)
		return exitSignal + int(s.signal)
	}
	fmt.Fprintln(std.err, "thaw:", strings.ReplaceAll(err.Error(), "\n", "\nthaw: "))
	_, refused := errors.AsType[*refusal](err)
	if thaw.KindOf(err) == thaw.Invalid && !refused {
		return exitUsage
	}
	return exitFailed
}

// helpCmd is --help for those who type help.
type helpCmd struct {
	Command []string `arg:"" optional:"" help:"The command, as in \"thaw help image inspect\"."`
}

// asHelp turns "help COMMAND" into "COMMAND --help", and leaves what names no
// command, to be refused as such.
func asHelp(parser *kong.Kong, args []string) []string {
	if len(args) == 0 || args[0] != "help" {
		return args
	}
	node := parser.Model.Node
	for i, word := range args[1:] {
		at := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word })
		switch {
		case at < 0 && node.Leaf():
			return append(args[1:i+1:i+1], "--help")
		case at < 0:
			return args[1:]
		}
		node = node.Children[at]
	}
	return append(args[1:len(args):len(args)], "--help")
}

// versionCmd is --version for those who type version.
type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(std streams) error {
	_, err := fmt.Fprintln(std.out, version)
	return err
}

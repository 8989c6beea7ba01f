// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"

	"thaw.dev/thaw"
	"thaw.dev/thaw/tenant"
)

// registryCmd groups the commands on other registries.
type registryCmd struct {
	Login  registryLoginCmd  `cmd:"" help:"Store a tenant's login at another registry, so that its functions can be made of private images there."`
	Ls     registryLsCmd     `cmd:"" help:"List a tenant's logins at other registries, without their passwords."`
	Logout registryLogoutCmd `cmd:"" help:"Forget a tenant's login at another registry."`
}

// loginRequest goes over the admin socket.
type loginRequest struct {
	Registry string `json:"registry"`
	User     string `json:"user"`
	Password string `json:"password"`
}

// registryFlags name whose logins are meant.
type registryFlags struct {
	tenantFlags
}

func (f registryFlags) path() string {
	return "/v1/tenants/" + url.PathEscape(f.Tenant) + "/registries"
}

type registryLoginCmd struct {
	registryFlags
	Host          string `arg:"" help:"The registry: HOST or HOST:PORT, docker.io for Docker Hub."`
	User          string `short:"u" help:"User name; asked for on a terminal." placeholder:"USER"`
	PasswordStdin bool   `help:"Read the password, or token, from standard input."`
}

// Help is the long form of the command's help.
func (registryLoginCmd) Help() string {
	return `The registry is asked whether it takes the login before it is stored. The
password is kept sealed under the tenant's key, and used when an image is
resolved and read. As in

  aws ecr get-login-password | thaw registry login -u AWS --password-stdin HOST`
}

// Run reads the password and has the server check and store the login.
func (c *registryLoginCmd) Run(ctx context.Context, std streams) error {
	user, password, err := c.ask(ctx, std)
	if err != nil {
		return err
	}
	var stored tenant.Login
	in := loginRequest{Registry: c.Host, User: user, Password: password}
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	if err := admin.do(ctx, http.MethodPost, c.path(), in, &stored); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "tenant %s is logged in to %s as %s\n", c.Tenant, stored.Registry, stored.User)
	return err
}

// ask completes the flags from standard input: a terminal's, with the password
// not shown, or with --password-stdin whatever it is.
func (c *registryLoginCmd) ask(ctx context.Context, std streams) (user, password string, err error) {
	file, isFile := std.in.(*os.File)
	terminal := isFile && term.IsTerminal(int(file.Fd()))
	if c.PasswordStdin {
		if c.User == "" {
			return "", "", thaw.Errorf("log in to "+c.Host, thaw.Invalid, "--password-stdin needs --user")
		}
		text, err := reading(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(std.in, 1<<20)) })
		return c.User, strings.TrimRight(string(text), "\r\n"), err
	}
	if !terminal {
		return "", "", thaw.Errorf("log in to "+c.Host, thaw.Invalid,
			"standard input is not a terminal: give the password with --password-stdin")
	}
	if user = c.User; user == "" {
		fmt.Fprint(std.err, "user: ")
		line, err := reading(ctx, func() ([]byte, error) { return bufio.NewReader(std.in).ReadBytes('\n') })
		if err != nil && !errors.Is(err, io.EOF) {
			return "", "", err
		}
		user = strings.TrimSpace(string(line))
	}
	fmt.Fprintf(std.err, "password of %s: ", user)
	shown, err := term.GetState(int(file.Fd()))
	if err != nil {
		return "", "", err
	}
	text, err := reading(ctx, func() ([]byte, error) { return term.ReadPassword(int(file.Fd())) })
	if err != nil {
		_ = term.Restore(int(file.Fd()), shown) // an interrupted read leaves the echo off
	}
	fmt.Fprintln(std.err)
	return user, string(text), err
}

type registryLsCmd struct {
	registryFlags
	JSON bool `name:"json" help:"Print JSON."`
}

// Run lists the logins.
func (c *registryLsCmd) Run(ctx context.Context, std streams) error {
	var logins []tenant.Login
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	if err := admin.do(ctx, http.MethodGet, c.path(), nil, &logins); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, logins)
	}
	table := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "REGISTRY\tUSER\tCHANGED")
	for _, l := range logins {
		fmt.Fprintf(table, "%s\t%s\t%s\n", l.Registry, l.User, l.Changed.Format("2006-01-02 15:04"))
	}
	return table.Flush()
}

type registryLogoutCmd struct {
	registryFlags
	Host string `arg:"" help:"The registry, as thaw registry ls shows it."`
}

// Run forgets the login.
func (c *registryLogoutCmd) Run(ctx context.Context, std streams) error {
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	if err := admin.do(ctx, http.MethodDelete, c.path()+"?registry="+url.QueryEscape(c.Host), nil, nil); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "tenant %s is logged out of %s\n", c.Tenant, c.Host)
	return err
}

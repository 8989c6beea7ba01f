// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"thaw.dev/thaw"
)

// defaultData is the data folder if neither --data nor THAW_DATA names one.
const defaultData = "/var/lib/thaw"

// namedBy says who named a server or a tenant. The higher wins.
type namedBy int

const (
	byDefault namedBy = iota
	byAWS             // what "thaw env" set: AWS_ENDPOINT_URL, THAW_ENV
	byThaw            // THAW_DATA, THAW_ENDPOINT, THAW_TENANT
	byFlag
)

// sourceOf tells a flag of the command line from one of the environment, and
// refuses one that is empty: --data "$TYPO" must not mean the default server.
func sourceOf(k *kong.Context, flag, variable string) (namedBy, error) {
	for _, p := range k.Path {
		if p.Flag == nil || p.Flag.Name != flag || p.Resolved {
			continue
		}
		if p.Flag.Target.String() == "" {
			return byFlag, thaw.Errorf("", thaw.Invalid, "--%s is empty", flag)
		}
		return byFlag, nil
	}
	if os.Getenv(variable) != "" {
		return byThaw, nil
	}
	return byDefault, nil
}

// dataFlag names a server on this machine by its folder, through whose admin
// socket most commands work.
type dataFlag struct {
	Data string `help:"The server's data folder. It wins over an endpoint in the environment." default:"/var/lib/thaw" env:"THAW_DATA" type:"path"`

	dataBy namedBy
}

// AfterApply notes who named the folder. (kong calls it, on the outermost of
// structs that embed one another.)
func (d *dataFlag) AfterApply(k *kong.Context) (err error) {
	if d.dataBy, err = sourceOf(k, "data", "THAW_DATA"); d.dataBy == byDefault {
		d.Data = defaultData
		if _, data := ofEnvironment(); data != "" {
			d.Data, d.dataBy = data, byAWS
		}
	}
	return err
}

// ofEnvironment returns the tenant and the folder that "thaw env" printed the AWS
// variables for, which THAW_ENV tells: TENANT:FOLDER.
func ofEnvironment() (tenant, data string) {
	tenant, data, _ = strings.Cut(os.Getenv("THAW_ENV"), ":")
	return tenant, data
}

// tenantFlags name a server and the tenant to act as.
type tenantFlags struct {
	dataFlag
	Tenant string `help:"The tenant to act as: its name or account id." default:"default" env:"THAW_TENANT" placeholder:"NAME"`

	tenantBy namedBy
}

// AfterApply notes who named the tenant.
func (f *tenantFlags) AfterApply(k *kong.Context) (err error) {
	if err := f.dataFlag.AfterApply(k); err != nil {
		return err
	}
	if f.tenantBy, err = sourceOf(k, "tenant", "THAW_TENANT"); f.tenantBy == byDefault {
		f.Tenant = "default"
		if tenant, _ := ofEnvironment(); tenant != "" {
			f.Tenant, f.tenantBy = tenant, byAWS
		}
	}
	return err
}

// endpoint is the URL of a server and who named it.
type endpoint struct {
	url  string
	by   namedBy
	name string // of the flag or variable, for messages
}

// environmentEndpoint is the endpoint that the environment names, if any.
func environmentEndpoint() endpoint {
	if url := os.Getenv("THAW_ENDPOINT"); url != "" {
		return endpoint{url, byThaw, "THAW_ENDPOINT"}
	}
	if url := os.Getenv("AWS_ENDPOINT_URL"); url != "" {
		return endpoint{url, byAWS, "AWS_ENDPOINT_URL"}
	}
	return endpoint{}
}

// check refuses what is not the address of a server.
func (e endpoint) check() error {
	u, err := url.Parse(e.url)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return thaw.Errorf("", thaw.Invalid, "%s is %q: an endpoint is a URL, http://HOST:PORT or https://HOST:PORT", e.name, e.url)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return thaw.Errorf("", thaw.Invalid, "%s is %q: an endpoint is a scheme, a host and a port, with nothing else", e.name, u.Redacted())
	}
	return nil
}

// sameServer reports whether two endpoints are one address: as text, or as two
// names of this machine's loopback.
func sameServer(a, b string) bool {
	ua, errA := url.Parse(a)
	ub, errB := url.Parse(b)
	if errA != nil || errB != nil || ua.Scheme != ub.Scheme {
		return false
	}
	port := func(u *url.URL) string {
		if u.Port() == "" && u.Scheme == "https" {
			return "443"
		} else if u.Port() == "" {
			return "80"
		}
		return u.Port()
	}
	host := func(u *url.URL) string {
		if ip := net.ParseIP(u.Hostname()); ip.IsLoopback() {
			return "localhost"
		}
		return strings.ToLower(u.Hostname())
	}
	return host(ua) == host(ub) && port(ua) == port(ub)
}

// admin returns a client of the server of --data. An endpoint that was named
// more explicitly than the folder must be that server's: all commands mean the
// same server by the same flags and environment.
func (d dataFlag) admin(ctx context.Context) (*adminClient, error) {
	return d.adminOf(ctx, environmentEndpoint())
}

func (d dataFlag) adminOf(ctx context.Context, e endpoint) (*adminClient, error) {
	admin := newAdminClient(d.Data)
	if e.by == byDefault || e.by < d.dataBy {
		return admin, nil
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	info, err := admin.info(ctx)
	if err != nil {
		return nil, thaw.Wrap(e.name+" is "+e.url+", and this needs the data folder of that server", err)
	}
	if !sameServer(e.url, info.Endpoint) {
		return nil, thaw.Errorf("", thaw.Invalid,
			"%s is %s, but the server of %s is %s: name one server with --data; for a new environment, run: eval \"$(thaw env --data FOLDER)\"", e.name, e.url, d.Data, info.Endpoint)
	}
	return admin, nil
}

// apiFlags choose the server and the tenant for commands that use the Lambda
// API, as any other client would.
type apiFlags struct {
	tenantFlags
	Endpoint string `help:"URL of the server, with the AWS credentials of the environment; by default that of --data, or AWS_ENDPOINT_URL if THAW_DATA is not set." env:"THAW_ENDPOINT" placeholder:"URL"`

	endpointBy namedBy
}

// AfterApply notes who named the endpoint.
func (f *apiFlags) AfterApply(k *kong.Context) (err error) {
	if err := f.tenantFlags.AfterApply(k); err != nil {
		return err
	}
	f.endpointBy, err = sourceOf(k, "endpoint", "THAW_ENDPOINT")
	return err
}

// session is what a command needs to act as a tenant.
type session struct {
	endpoint, region  string
	accessKey, secret string
	from              string // who named the endpoint, for messages
	data              string // the server's folder, if it is on this machine
}

// open finds the server: a flag wins over THAW_DATA and THAW_ENDPOINT, these over
// AWS_ENDPOINT_URL, and that over the default folder. Two that are named in the
// same way must be one server. The credentials are the environment's for an
// endpoint, unless a tenant is named more explicitly; else those that the folder's
// server tells.
func (f apiFlags) open(ctx context.Context) (session, error) {
	e := environmentEndpoint()
	if f.endpointBy == byFlag {
		e = endpoint{f.Endpoint, byFlag, "--endpoint"}
	}
	if key, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"); e.by > byDefault &&
		(e.by > f.dataBy || e.by == byAWS && f.dataBy == byAWS) && f.tenantBy <= byAWS && key != "" && secret != "" {
		region := cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), defaultRegion)
		return session{endpoint: e.url, region: region, from: e.name, accessKey: key, secret: secret, data: f.Data}, e.check()
	}
	admin, err := f.adminOf(ctx, e)
	if err != nil {
		return session{}, err
	}
	info, err := admin.info(ctx)
	if err != nil {
		return session{}, err
	}
	account, err := admin.account(ctx, f.Tenant)
	if err != nil {
		return session{}, err
	}
	return session{
		endpoint: info.Endpoint, region: info.Region, from: "the endpoint of " + f.Data, data: f.Data,
		accessKey: account.AccessKeyID, secret: account.Secret,
	}, nil
}

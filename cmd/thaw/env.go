// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// envCmd prints the environment of the AWS tools and of thaw.
type envCmd struct {
	tenantFlags
	Wait time.Duration `help:"How long to wait for a server that is just being started." default:"5s"`
}

// Help is the long form of the command's help.
func (envCmd) Help() string {
	return `Use it as

  eval "$(thaw env)"

after which "aws lambda ...", "aws ecr ..." and every AWS SDK talk to this server
as the tenant, and thaw's own commands mean the same server and tenant, which
THAW_ENV tells them. AWS CLI 2.13 and later and the SDKs read AWS_ENDPOINT_URL;
for an older CLI the shell function "aws" adds --endpoint-url.`
}

// Run prints the exports. An endpoint that the environment has from an earlier
// "thaw env" does not matter: it is what this replaces.
func (c *envCmd) Run(ctx context.Context, std streams) error {
	admin := newAdminClient(c.Data)
	info, err := admin.await(ctx, c.Wait)
	if err != nil {
		return err
	}
	account, err := admin.account(ctx, c.Tenant)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, `export AWS_ACCESS_KEY_ID=%s
export AWS_SECRET_ACCESS_KEY=%s
unset AWS_SESSION_TOKEN AWS_PROFILE THAW_DATA THAW_ENDPOINT THAW_TENANT
export AWS_REGION=%s
export AWS_DEFAULT_REGION=%s
export AWS_ENDPOINT_URL=%s
export THAW_ENV=%s
aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }
`, quote(account.AccessKeyID), quote(account.Secret), quote(info.Region), quote(info.Region), quote(info.Endpoint),
		quote(account.Name+":"+c.Data))
	return err
}

// quote returns text as one word of a shell's command line, as it is where it has
// no character that a shell looks at.
func quote(text string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-+./:,@%=", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !safe(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// loginCmd stores the tenant's credentials where docker-style tools look.
type loginCmd struct {
	tenantFlags
	AuthFile string `help:"The file of credentials to write; by default docker's own." env:"REGISTRY_AUTH_FILE" type:"path"`
}

// Run adds the registry's credentials to the file and keeps the rest of it.
func (c *loginCmd) Run(ctx context.Context, std streams) error {
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	info, err := admin.info(ctx)
	if err != nil {
		return err
	}
	account, err := admin.account(ctx, c.Tenant)
	if err != nil {
		return err
	}
	endpoint, err := url.Parse(info.Endpoint)
	if err != nil {
		return err
	}
	file := c.AuthFile
	if file == "" {
		if file, err = dockerConfig(); err != nil {
			return err
		}
	}
	token := base64.StdEncoding.EncodeToString([]byte(account.AccessKeyID + ":" + account.Secret))
	if err := addAuth(file, endpoint.Host, token); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "logged in to %s as tenant %s (%s)\n", endpoint.Host, account.Name, file)
	return err
}

func dockerConfig() (string, error) {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json"), nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".docker", "config.json"), err
}

// addAuth sets auths[host].auth in the JSON file and leaves every other key as
// it was.
func addAuth(file, host, token string) error {
	config := map[string]any{}
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(text, &config); err != nil {
			return fmt.Errorf("%s is not JSON (%w): mend or remove it", file, err)
		}
	}
	auths, _ := config["auths"].(map[string]any)
	if auths == nil {
		auths = map[string]any{}
	}
	auths[host] = map[string]any{"auth": token}
	config["auths"] = auths
	if text, err = json.MarshalIndent(config, "", "\t"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return replacePrivate(file, append(text, '\n'))
}

// replacePrivate puts a file that only its owner may read in place of file, at
// once: whoever reads it meanwhile, or finds it after a crash, has the old one or
// the new one. A link stays one, and an owner stays the owner.
func replacePrivate(file string, data []byte) error {
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	temp, err := os.CreateTemp(filepath.Dir(file), ".thaw-") // of mode 0600
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	if before, statErr := os.Stat(file); statErr == nil && err == nil {
		if owner, ok := before.Sys().(*syscall.Stat_t); ok {
			err = temp.Chown(int(owner.Uid), int(owner.Gid))
		}
	}
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		_ = os.Remove(temp.Name()) // the first failure is the one to tell
	}
	return err
}

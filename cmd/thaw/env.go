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
	"time"
)

// envCmd prints the environment of the AWS tools.
type envCmd struct {
	dataFlag
	Tenant string        `help:"The tenant to act as." default:"default"`
	Wait   time.Duration `help:"How long to wait for a server that is just being started." default:"5s"`
}

// Help is the long form of the command's help.
func (envCmd) Help() string {
	return `Use it as

  eval "$(thaw env)"

after which "aws lambda ...", "aws ecr ..." and every AWS SDK talk to this server
as the tenant. AWS CLI 2.13 and later and the SDKs read AWS_ENDPOINT_URL; for an
older CLI the shell function "aws" adds --endpoint-url.`
}

// Run prints the exports.
func (c *envCmd) Run(ctx context.Context, std streams) error {
	admin := c.admin()
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
unset AWS_SESSION_TOKEN AWS_PROFILE
export AWS_REGION=%s
export AWS_DEFAULT_REGION=%s
export AWS_ENDPOINT_URL=%s
aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }
`, account.AccessKeyID, account.Secret, info.Region, info.Region, info.Endpoint)
	return err
}

// loginCmd stores the tenant's credentials where docker-style tools look.
type loginCmd struct {
	dataFlag
	Tenant   string `help:"The tenant to act as." default:"default"`
	AuthFile string `help:"The file of credentials to write; by default docker's own." env:"REGISTRY_AUTH_FILE" type:"path"`
}

// Run adds the registry's credentials to the file and keeps the rest of it.
func (c *loginCmd) Run(ctx context.Context, std streams) error {
	admin := c.admin()
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
	return os.WriteFile(file, append(text, '\n'), 0o600)
}

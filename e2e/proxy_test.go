// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"thaw.dev/thaw/internal/livetest"
	"thaw.dev/thaw/internal/testkit"
)

// TestBehindProxy drives a server behind the proxies whose files docs/proxy has, by TLS:
// pushes, layers larger than any buffer, ECR's API, an invocation of 6 MB and one
// longer than a proxy waits by default. Nothing that a client is told is of the
// inside.
func TestBehindProxy(t *testing.T) {
	for name, start := range map[string]func(*testing.T, *proxied){"nginx": startNginx, "Caddy": startCaddy} {
		t.Run(name, func(t *testing.T) {
			p := newProxied(t)
			start(t, p)
			p.world = newWorld(t, "--listen", p.inside, "--endpoint", "https://"+p.outside)
			p.testECR(t)
			p.testPushes(t)
			p.testLambda(t)
			if strings.Contains(p.said.String(), p.inside) || strings.Contains(p.said.String(), "http://") {
				t.Errorf("a client was told of the inside:\n%s", p.said.String())
			}
		})
	}
}

// TestProxyThatChangesHost: where the proxy has lost the Host header, the refusal of
// the signature says so.
func TestProxyThatChangesHost(t *testing.T) {
	p := newProxied(t)
	p.change = func(conf string) string {
		return strings.Replace(conf, "proxy_set_header Host $http_host;", "", 1)
	}
	startNginx(t, p)
	p.world = newWorld(t, "--listen", p.inside, "--endpoint", "https://"+p.outside)
	out, err := p.try("/usr/bin/aws", "--endpoint-url", "https://"+p.outside, "lambda", "list-functions")
	want := "It was made for the host '" + p.outside + "', but the request came with the host '" + p.inside + "'"
	if err == nil || !strings.Contains(out, want) {
		t.Errorf("the refusal is %v %s, want %s", err, out, want)
	}
}

// proxied is a server behind a proxy.
type proxied struct {
	*world
	dir             string // certificates and configuration
	inside, outside string // HOST:PORT
	change          func(conf string) string
	said            strings.Builder // all that clients printed
}

func newProxied(t *testing.T) *proxied {
	t.Helper()
	p := &proxied{dir: t.TempDir(), inside: "127.0.0.1:" + freePort(t), outside: "localhost:" + freePort(t), change: func(conf string) string { return conf }}
	if err := writeCertificates(p.dir); err != nil {
		t.Fatal(err)
	}
	return p
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// port is the outside one.
func (p *proxied) port() string { return strings.TrimPrefix(p.outside, "localhost:") }

// client runs a client that trusts the test's CA, and notes what it prints.
func (p *proxied) client(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := p.try(name, args...)
	p.said.WriteString(out)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (p *proxied) try(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	ca := filepath.Join(p.dir, "ca.crt")
	cmd.Env = append(p.Environ(p.creds), "AWS_CA_BUNDLE="+ca, "SSL_CERT_FILE="+ca, "HOME="+p.dir, "DOCKER_CONFIG="+p.dir, "REGISTRY_AUTH_FILE="+filepath.Join(p.dir, "config.json"))
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// call runs the AWS CLI and decodes what it prints.
func (p *proxied) call(t *testing.T, out any, args ...string) {
	t.Helper()
	text := p.client(t, "/usr/bin/aws", append([]string{"--endpoint-url", "https://" + p.outside, "--output", "json"}, args...)...)
	if out == nil {
		return
	}
	if err := json.Unmarshal([]byte(text), out); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, text)
	}
}

func (p *proxied) testECR(t *testing.T) {
	t.Helper()
	if p.Endpoint != "https://"+p.outside {
		t.Errorf("thaw env says %s", p.Endpoint)
	}
	var token struct {
		AuthorizationData []struct{ ProxyEndpoint string }
	}
	p.call(t, &token, "ecr", "get-authorization-token")
	if got := token.AuthorizationData[0].ProxyEndpoint; got != "https://"+p.outside {
		t.Errorf("proxyEndpoint is %s", got)
	}
	var made struct {
		Repository struct{ RepositoryURI string }
	}
	p.call(t, &made, "ecr", "create-repository", "--repository-name", "team/app")
	if got := made.Repository.RepositoryURI; got != p.outside+"/team/app" {
		t.Errorf("repositoryUri is %s", got)
	}
}

// testPushes pushes by three clients, and reads a large layer back by its
// download address.
func (p *proxied) testPushes(t *testing.T) {
	t.Helper()
	const layerBytes = 96 << 20
	large, err := random.Image(layerBytes, 1)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(p.dir, "large")
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendImage(large)
	}
	if err != nil {
		t.Fatal(err)
	}
	certificates := filepath.Join(p.dir, "trusted")
	login := p.creds.AccessKey + ":" + p.creds.Secret
	crane := testkit.GoTool(t, testkit.Crane)
	p.client(t, crane, "auth", "login", p.outside, "-u", p.creds.AccessKey, "-p", p.creds.Secret)
	p.client(t, crane, "push", dir, p.outside+"/large:crane")
	p.client(t, crane, "validate", "--remote", p.outside+"/large:crane")
	p.client(t, "skopeo", "copy", "-q", "--dest-cert-dir", certificates, "--dest-creds", login, "oci:"+dir, "docker://"+p.outside+"/large-again:skopeo")
	buildah := []string{"--root", filepath.Join(p.dir, "store"), "--runroot", filepath.Join(p.dir, "run"), "--storage-driver", "vfs"}
	made := strings.TrimSpace(p.client(t, "buildah", append(buildah, "from", "--quiet", "scratch")...))
	p.client(t, "buildah", append(buildah, "copy", "--quiet", made, "large", "/large")...)
	p.client(t, "buildah", append(buildah, "commit", "--quiet", made, p.outside+"/large-more:buildah")...)
	p.client(t, "buildah", append(buildah, "push", "--quiet", "--cert-dir", certificates, "--creds", login, p.outside+"/large-more:buildah")...)

	layers, err := large.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	var found struct{ DownloadURL string }
	p.call(t, &found, "ecr", "get-download-url-for-layer", "--repository-name", "large", "--layer-digest", digest.String())
	if !strings.HasPrefix(found.DownloadURL, "https://"+p.outside+"/") {
		t.Errorf("the download address is %s", found.DownloadURL)
	}
	p.client(t, "curl", "-sSf", "--cacert", filepath.Join(p.dir, "ca.crt"), "-D", "-", "-o", "layer", found.DownloadURL)
	if sum := p.client(t, "sha256sum", "layer"); !strings.HasPrefix(sum, digest.Hex) {
		t.Errorf("the layer has the digest %s, want %s", sum, digest)
	}
	headers := p.client(t, "curl", "-sS", "--cacert", filepath.Join(p.dir, "ca.crt"), "-i", "https://"+p.outside+"/v2/")
	if !strings.Contains(headers, "401") {
		t.Errorf("without a login: %s", headers)
	}
	for _, request := range []string{"/v2/large/blobs/uploads/", "/v2/large-again/blobs/uploads/"} {
		p.client(t, "curl", "-sSf", "--cacert", filepath.Join(p.dir, "ca.crt"), "-i", "-X", "POST", "-u", login, "https://"+p.outside+request)
	}
}

func (p *proxied) testLambda(t *testing.T) {
	t.Helper()
	built, err := images("py-hello-probe:1")
	if err != nil {
		t.Fatal(err)
	}
	ref := p.outside + "/probe:v1"
	p.client(t, "skopeo", "copy", "-q", "--dest-cert-dir", filepath.Join(p.dir, "trusted"), "--dest-creds", p.creds.AccessKey+":"+p.creds.Secret,
		"oci:"+built+":py-hello-probe:1", "docker://"+ref)
	p.call(t, nil, "lambda", "create-function", "--function-name", "probe", "--package-type", "Image", "--code", "ImageUri="+ref,
		"--role", "arn:aws:iam::000000000000:role/test", "--timeout", "900", "--memory-size", "512")
	p.client(t, "/usr/bin/aws", "--endpoint-url", "https://"+p.outside, "lambda", "wait", "function-active-v2", "--function-name", "probe")
	var function struct {
		Code          struct{ ImageURI, ResolvedImageURI string }
		Configuration struct{ FunctionArn string }
	}
	p.call(t, &function, "lambda", "get-function", "--function-name", "probe")
	if function.Code.ImageURI != ref {
		t.Errorf("the function's image is %+v", function.Code)
	}
	const largest = 6 << 20
	padding := strings.Repeat("x", largest-100)
	event := filepath.Join(p.dir, "event")
	for what, text := range map[string]string{
		"6 MB there":                     `{"padding":"` + padding + `"}`,
		"5 MB back":                      `{"run":["/usr/bin/python3","-c","print('x'*5000000)"]}`,
		"more than a minute of patience": `{"sleep":65}`,
	} {
		if err := os.WriteFile(event, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var answer struct{ FunctionError string }
		p.call(t, &answer, "--cli-read-timeout", "0", "lambda", "invoke", "--function-name", function.Configuration.FunctionArn, "--payload", "fileb://"+event, "answer")
		got, err := os.ReadFile(filepath.Join(p.dir, "answer"))
		if err != nil || answer.FunctionError != "" || (what == "5 MB back" && len(got) < 5000000) {
			t.Errorf("%s: %d bytes, %v, %s", what, len(got), err, answer.FunctionError)
		}
	}
}

// documented returns a file of docs/proxy with a test's addresses and certificate.
func (p *proxied) documented(t *testing.T, name string, replace ...string) string {
	t.Helper()
	root, err := livetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "proxy", name))
	if err != nil {
		t.Fatal(err)
	}
	conf := string(text)
	replace = append(replace, "127.0.0.1:9800", p.inside, "/etc/ssl/thaw", p.dir)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(conf, replace[i]) && replace[i] != "/etc/ssl/thaw" {
			t.Fatalf("docs/proxy/%s has no %q", name, replace[i])
		}
		conf = strings.ReplaceAll(conf, replace[i], replace[i+1])
	}
	return p.change(conf)
}

func startNginx(t *testing.T, p *proxied) {
	t.Helper()
	testkit.RequireTool(t, "nginx")
	server := p.documented(t, "nginx.conf", "listen 443", "listen 127.0.0.1:"+p.port(), "listen [::]:443", "listen [::1]:"+p.port(), "server_name thaw.example.com", "server_name localhost")
	conf := "daemon off; user root; error_log stderr; pid " + p.dir + "/pid; events {}\nhttp { access_log off;\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		conf += kind + "_temp_path " + p.dir + "/" + kind + ";\n"
	}
	p.start(t, "nginx", conf+server+"}\n", "-c")
}

func startCaddy(t *testing.T, p *proxied) {
	t.Helper()
	testkit.RequireTool(t, "caddy")
	site := p.documented(t, "Caddyfile", "thaw.example.com {", p.outside+" {\n\tbind 127.0.0.1 ::1\n\ttls "+p.dir+"/fullchain.pem "+p.dir+"/privkey.pem")
	p.start(t, "caddy", "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n"+site, "run", "--adapter", "caddyfile", "--config")
}

// start runs a proxy with a configuration until the test ends.
func (p *proxied) start(t *testing.T, name, conf string, args ...string) {
	t.Helper()
	file := filepath.Join(p.dir, name+".conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, append(args, file)...)
	cmd.Env = append(os.Environ(), "HOME="+p.dir, "XDG_DATA_HOME="+p.dir, "XDG_CONFIG_HOME="+p.dir)
	var log livetest.SafeBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s printed:\n%s", name, &log)
		}
	})
	for over := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+p.port())
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(over) {
			t.Fatalf("%s does not listen: %v\n%s", name, err, &log)
		}
	}
}

// writeCertificates writes a CA and a certificate for localhost.
func writeCertificates(dir string) error {
	now := time.Now()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "thaw test CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	signed, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{"localhost"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	chain, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "trusted"), 0o700); err != nil {
		return err
	}
	for name, block := range map[string]pem.Block{
		"ca.crt": {Type: "CERTIFICATE", Bytes: signed}, "trusted/ca.crt": {Type: "CERTIFICATE", Bytes: signed},
		"fullchain.pem": {Type: "CERTIFICATE", Bytes: chain}, "privkey.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&block), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

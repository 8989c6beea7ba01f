// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"syscall"
	"time"

	"thaw.dev/thaw"
)

// serveCmd runs the server.
type serveCmd struct {
	dataFlag
	Listen      string `help:"Address of the Lambda API, the ECR API and the registry. The API has no TLS of its own: beyond loopback, put a TLS proxy before it, and name it with --endpoint." default:"127.0.0.1:9800"`
	AdminListen string `help:"Address of /metrics, /healthz and /readyz, without authentication; empty turns it off." default:"127.0.0.1:9801"`
	Region      string `help:"The region that ARNs name. A new data folder keeps it (without the flag AWS_REGION, else us-east-1); later it can't be changed." placeholder:"REGION"`
	Endpoint    string `help:"URL by which clients reach this server, as https://thaw.example.com behind a TLS proxy (docs/proxy.md). Every address that clients are told is of it; without, they are told the one that they used." placeholder:"URL"`

	Sandbox    string `help:"What isolates functions: jail (thaw's own launcher) or oci (an OCI runtime, see --oci-runtime)." enum:"jail,oci" default:"jail"`
	OCIRuntime string `name:"oci-runtime" help:"The runtime of --sandbox oci: crun, runc, or a path." default:"crun" placeholder:"NAME"`
	Pool       int    `help:"Sandboxes prepared ahead of starts." default:"4"`

	doorFlags

	networkFlags

	originFlags

	shareFlags

	quotaFlags

	MemoryMB      int           `help:"Memory for all sandboxes together, in MB; by default three quarters of the machine's." placeholder:"MB"`
	Sandboxes     int           `help:"Sandboxes at once, idle ones included." default:"256"`
	Starts        int           `help:"Cold starts at once; further invocations wait." default:"16"`
	FnStarts      int           `name:"starts-per-function" help:"The same for one function." default:"8"`
	Queue         int           `help:"Invocations that may wait for a sandbox; further ones are refused (429)." default:"1000"`
	FnQueue       int           `name:"queue-per-function" help:"The same for one function." default:"500"`
	QueueWait     time.Duration `help:"How long one may wait until it is refused (429)." default:"3s"`
	Idle          time.Duration `help:"How long an idle sandbox is kept." default:"10m"`
	TmpDisk       int64         `name:"tmp-disk" help:"Disk for the files in all functions' /tmp together, in MB. Functions get ENOSPC past it, and where the file system of --data is nearly full." default:"51200"`
	L1Disk        int64         `name:"l1-disk" help:"Disk for cached chunks, in MB." default:"10240"`
	L1Memory      int64         `name:"l1-memory" help:"Memory for cached chunks, in MB." default:"128"`
	L2            string        `name:"l2" help:"The zone's cache: memcached servers as host:port,host:port,...; or srv+NAME (DNS SRV records), or dns+NAME:PORT (all addresses). Five or more, see docs/cache.md." placeholder:"SERVERS"`
	AllowRegistry []string      `help:"A registry, HOST[:PORT], *.DOMAIN or *, that image references may reach although its address is not public; with http:// before it by plain HTTP too. May be repeated. Without, tenants reach public addresses by HTTPS." placeholder:"HOST"`
	OneDomain     bool          `help:"Share chunks between all tenants, whoever published what they hold, as Lambda does."`
	Publishers    []string      `help:"Tenants (names) that may push to public repositories." placeholder:"TENANT"`
	PrepareMB     int64         `name:"prepare-memory" help:"Memory of the process that makes an image of a function's layers, in MB; an image with too many names, links and attributes for it is refused." default:"1024"`
	PrepareTime   time.Duration `help:"How long it may work on one image, without the time that it waits." default:"1h"`
	DrainTime     time.Duration `help:"How long running invocations may go on after SIGTERM." default:"30s"`

	logFlags
}

// Help is the long form of the command's help.
func (serveCmd) Help() string {
	return `Everything is below --data: origin/ (sealed chunks and manifests; unless --origin
says another place), registry/, keys/, thaw.db, logs/, l1/ and kept/
(caches, may be deleted) and run/ (sockets and mounts).
Back up origin/, registry/, keys/ and thaw.db; without keys/ nothing can be opened.

SIGTERM and SIGINT end the server when running invocations have finished. After a
crash the next start removes what was left (mounts, processes, control groups).`
}

// Run serves until the context ends.
func (c *serveCmd) Run(ctx context.Context, std streams) error {
	if err := preflight(); err != nil {
		return err
	}
	log := c.logger(std.err)
	defer daemonSignals(std.err)()
	if err := c.anchor(); err != nil {
		return err
	}
	if err := c.doorFlags.check(); err != nil {
		return err
	}
	if err := c.raiseFiles(); err != nil {
		return err
	}
	if c.TmpDisk < 1 {
		return thaw.Errorf("serve", thaw.Invalid, "--tmp-disk %d: it is not a positive number of MB", c.TmpDisk)
	}
	if err := c.quotaFlags.check(); err != nil {
		return err
	}
	c.raiseTables("/proc/sys", log)
	undo, err := makeDataFolder(c.Data)
	if err != nil {
		return err
	}
	unlock, err := lockFolder(c.Data)
	if err != nil {
		return err
	}
	defer unlock()

	n, err := openNode(ctx, c, log)
	if err != nil {
		undo()
		return err
	}
	log.Info("serving", "endpoint", n.address.endpoint(), "admin", n.adminAddress, "data", c.Data, "version", version)
	if n.adminAddress != "" {
		log.Info("where to look: /readyz says why the server is not ready, /metrics has what to alarm on; this log has the X-Amzn-RequestId of every failed answer (5xx)",
			"ready", "http://"+n.adminAddress+"/readyz", "metrics", "http://"+n.adminAddress+"/metrics")
	}
	n.address.warn(log, n.admin)
	stopping := context.AfterFunc(ctx, func() { log.Info("stopping: running invocations may finish", "within", c.DrainTime.String()) })
	defer stopping()
	serveErr := n.serve(ctx)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.DrainTime+10*time.Second)
	defer cancel()
	if err := n.close(closing); err != nil {
		return thaw.Wrap("stop", err)
	}
	log.Info("stopped")
	return serveErr
}

// memoryMB is the memory for sandboxes: what was asked for, or three quarters
// of the machine's, which leaves room for the page cache that starts live on.
func (c *serveCmd) memoryMB() int {
	if c.MemoryMB > 0 {
		return c.MemoryMB
	}
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 4096
	}
	return int(info.Totalram * uint64(info.Unit) * 3 / 4 >> 20)
}

// lockFolder makes sure that one server at a time works on a data folder. The
// folder itself is locked: a file in it may be removed while the server runs.
func lockFolder(data string) (unlock func(), err error) {
	file, err := os.Open(data)
	if err != nil {
		return nil, dataError(data, err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, thaw.Errorf("serve", thaw.Conflict, "another thaw serve works on %s: end it, or name another folder with --data", data)
	}
	return func() { _ = file.Close() }, nil
}

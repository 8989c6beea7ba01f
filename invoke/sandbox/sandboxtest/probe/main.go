// SPDX-License-Identifier: Apache-2.0

// Command probe runs inside a sandbox under test: it tells what it sees, tries
// what it must not be able to do, and uses up what is limited. sandboxtest
// builds it into the image that the sandboxes run.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		fail("no verb")
	}
	args := os.Args[2:]
	verbs := map[string]func([]string){
		"look": look, "disks": disks, "try": try, "exit": exit, "signal": signalSelf, "say": say, "sleep": sleep, "daemon": daemon,
		"memory": memory, "processes": processes, "bomb": bomb, "fill": fill, "size": size, "files": files, "many": many, "keep": keep, "stain": stain, "api": api, "tick": tick, "steal": steal,
		"write": write, "take": take, "connect": connect, "resist": resist, "orphans": orphans,
	}
	verb, ok := verbs[os.Args[1]]
	if !ok {
		fail("unknown verb " + os.Args[1])
	}
	verb(args)
}

func fail(v ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"probe:"}, v...)...)
	os.Exit(99)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		fail(err)
	}
	return n
}

// answer prints a value as JSON on one line.
func answer(v any) {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		fail(err)
	}
}

// outcome names an error for comparison: "ok", the errno's name, or the text.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func exit(args []string) { os.Exit(number(args[0])) }

func signalSelf(args []string) {
	_ = syscall.Kill(os.Getpid(), syscall.Signal(number(args[0])))
	time.Sleep(time.Minute)
}

// say prints to both streams and what stdin gives.
func say(args []string) {
	in := make([]byte, 10)
	n, err := os.Stdin.Read(in)
	fmt.Println("out", strings.Join(args, " "), "stdin", n, err)
	fmt.Fprintln(os.Stderr, "err", strings.Join(args, " "))
	f, err := os.OpenFile("/dev/stdout", os.O_WRONLY, 0)
	if err != nil {
		fail("reopen stdout:", err)
	}
	fmt.Fprintln(f, "reopened")
}

func sleep([]string) {
	fmt.Println("ready")
	time.Sleep(time.Hour)
}

// daemon leaves a descendant in a session of its own that holds the output
// open, and exits once that one has printed: with it, its descendant is killed.
func daemon(args []string) {
	const said = 3 // the descendant's end of the pipe
	if len(args) > 0 {
		fmt.Println("daemon", os.Getpid())
		_ = os.NewFile(said, "said").Close()
		time.Sleep(time.Hour)
	}
	child := exec.Command("/proc/self/exe", "daemon", "child")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	r, w, err := os.Pipe()
	if err != nil {
		fail(err)
	}
	child.ExtraFiles = []*os.File{w}
	if err := child.Start(); err != nil {
		fail(err)
	}
	_ = w.Close()
	_, _ = r.Read(make([]byte, 1)) // ends when the descendant closes its end
	os.Exit(7)
}

// memory touches that many MiB, then holds them.
func memory(args []string) {
	size := number(args[0]) << 20
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		fail(err)
	}
	for i := 0; i < size; i += 4096 {
		b[i] = 1
	}
	fmt.Println("touched")
	if len(args) > 1 {
		time.Sleep(time.Hour)
	}
}

// processes starts children until it can't or has as many as asked for.
func processes(args []string) {
	want := number(args[0])
	count := 0
	for ; count < want; count++ {
		pid, err := syscall.ForkExec("/proc/self/exe", []string{"probe", "sleep"}, &syscall.ProcAttr{Files: []uintptr{0}})
		if err != nil || pid == 0 {
			break
		}
	}
	answer(count)
	os.Exit(0)
}

// bomb forks for ever, in every child.
func bomb([]string) {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	fmt.Println("armed")
	for {
		_, _ = syscall.ForkExec("/proc/self/exe", []string{"probe", "bomb"}, &syscall.ProcAttr{Files: []uintptr{0}})
	}
}

// write writes a file and reads it back.
func write(args []string) {
	err := os.WriteFile(args[0], []byte("written"), 0o644)
	text, err2 := os.ReadFile(args[0])
	answer([]string{outcome(err), outcome(err2), string(text)})
}

// api sends a line to an address and prints the line that comes back.
func api(args []string) {
	conn, err := net.DialTimeout("tcp", args[0], 10*time.Second)
	if err != nil {
		fail(err)
	}
	fmt.Fprintln(conn, args[1])
	back := make([]byte, 100)
	n, _ := conn.Read(back)
	fmt.Print(string(back[:n]))
}

func connect(args []string) {
	results := map[string]string{}
	for _, address := range args {
		conn, err := net.DialTimeout("tcp", address, 2*time.Second)
		if err == nil {
			_ = conn.Close()
		}
		results[address] = outcome(err)
	}
	answer(results)
}

// tick prints a growing number for ever.
func tick([]string) {
	for i := 0; ; i++ {
		fmt.Println(i)
		time.Sleep(time.Millisecond)
	}
}

// steal looks for a secret in every process it can see.
func steal(args []string) {
	dirs, _ := os.ReadDir("/proc")
	found := []string{}
	for _, d := range dirs {
		if _, err := strconv.Atoi(d.Name()); err != nil || d.Name() == strconv.Itoa(os.Getpid()) {
			continue
		}
		for _, file := range []string{"environ", "cmdline", "maps"} {
			text, err := os.ReadFile("/proc/" + d.Name() + "/" + file)
			if err == nil && strings.Contains(string(text), args[0]) {
				found = append(found, d.Name()+"/"+file)
			}
		}
	}
	answer(found)
}

// resist ignores every signal that can be ignored.
func resist([]string) {
	signal.Ignore()
	fmt.Println("ready")
	time.Sleep(time.Hour)
}

// orphans makes children whose parent ends at once, then counts the zombies.
func orphans(args []string) {
	if len(args) > 0 && args[0] == "middle" {
		_, _ = syscall.ForkExec("/proc/self/exe", []string{"probe", "exit", "0"}, &syscall.ProcAttr{})
		os.Exit(0)
	}
	for range 10 {
		if err := exec.Command("/proc/self/exe", "orphans", "middle").Run(); err != nil {
			fail(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	zombies := 0
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		text, err := os.ReadFile("/proc/" + d.Name() + "/stat")
		if err == nil && strings.Contains(string(text), ") Z ") {
			zombies++
		}
	}
	answer(zombies)
}

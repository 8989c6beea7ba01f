"""Has ssh, which wants to know who runs it, make a key and connect to where nobody listens."""

import getpass
import subprocess


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def handler(event, context):
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/tmp/key")
    with open("/tmp/key.pub") as key:
        return {"error": run("ssh", "-o", "BatchMode=yes", "-p", "1", "127.0.0.1"), "user": getpass.getuser(), "key": key.read()}

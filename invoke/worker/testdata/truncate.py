"""A runtime that breaks off in the middle of its answer: and exits, or asks on."""
import http.client
import os
import socket

host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
while True:
    api = http.client.HTTPConnection(host, port)
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    reply = api.getresponse()
    request = reply.headers["Lambda-Runtime-Aws-Request-Id"]
    reply.read()
    raw = socket.create_connection((host, port))
    raw.sendall(("POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: a\r\n"
                 "Content-Length: 100\r\n\r\nhalf" % request).encode())
    raw.close()
    if not os.environ.get("STAY"):
        os._exit(7)

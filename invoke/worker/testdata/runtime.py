"""A Runtime API client of the standard library: what the smallest Python image has."""
import http.client
import json
import os
import sys

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
base = "/2018-06-01/runtime/"


def call(method, path, body=None, headers={}):
    api.request(method, base + path, body, headers)
    reply = api.getresponse()
    return reply.status, reply.headers, reply.read()


if os.environ.get("INIT_ERROR"):
    print("import fails", flush=True)
    call("POST", "init/error",
         json.dumps({"errorMessage": "No module named 'x'", "errorType": "Runtime.ImportModuleError", "stackTrace": []}),
         {"Lambda-Runtime-Function-Error-Type": "Runtime.ImportModuleError"})
    sys.exit(1)

while True:
    _, headers, payload = call("GET", "invocation/next")
    request = headers["Lambda-Runtime-Aws-Request-Id"]
    event = json.loads(payload)
    try:
        if event.get("Do") == "error":
            raise ValueError(event["Text"])
        if event.get("Do") == "big":
            answer = "x" * event["Bytes"]
        else:
            answer = {"Pid": os.getpid(), "Text": event.get("Text", "")}
        status, _, _ = call("POST", "invocation/%s/response" % request, json.dumps(answer))
        print("answered", status, flush=True)
    except ValueError as e:
        call("POST", "invocation/%s/error" % request,
             json.dumps({"errorMessage": str(e), "errorType": type(e).__name__, "stackTrace": []}),
             {"Lambda-Runtime-Function-Error-Type": type(e).__name__})

"""A runtime client: it asks the Runtime API for invocations and answers them
with the handler named on the command line ("app.handler" is `handler` of the
module app). AWS's awslambdaric does the same, and runs too."""

import http.client
import importlib
import json
import os
import sys
import time
import traceback

PREFIX = "/2018-06-01/runtime/"


class Context:
    def __init__(self, headers):
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self):
        return self._deadline_ms - int(time.time() * 1000)


def call(connection, method, route, body=None, headers=None):
    connection.request(method, PREFIX + route, body, headers or {})
    response = connection.getresponse()
    return response.headers, response.read()


def describe(error):
    trace = traceback.format_exception(error)
    return json.dumps({"errorType": type(error).__name__, "errorMessage": str(error), "stackTrace": trace})


def main():
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    name = sys.argv[1] if len(sys.argv) > 1 else os.environ["_HANDLER"] or "app.handler"
    module, _, function = name.rpartition(".")
    try:
        sys.path.insert(0, os.getcwd())
        handler = getattr(importlib.import_module(module), function)
    except Exception as error:
        print("[ERROR]", "".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
        call(connection, "POST", "init/error", describe(error), {"Lambda-Runtime-Function-Error-Type": "Runtime.ImportModuleError"})
        sys.exit(1)
    while True:
        headers, event = call(connection, "GET", "invocation/next")
        context = Context(headers)
        try:
            body = json.dumps(handler(json.loads(event), context))
            route, extra = "response", {}
        except Exception as error:
            body = describe(error)
            print("[ERROR]", "".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
            route, extra = "error", {"Lambda-Runtime-Function-Error-Type": type(error).__name__}
        call(connection, "POST", f"invocation/{context.aws_request_id}/{route}", body, extra)


if __name__ == "__main__":
    main()

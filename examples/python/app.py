import sys


def handler(event, context):
    if event.get("fail"):
        raise ValueError("asked to fail")
    name = event.get("name", "world")
    print("greeting", name, flush=True)
    return {"greeting": f"hello {name}", "runtime": "python " + sys.version.split()[0], "requestId": context.aws_request_id}

// A Runtime API client of fetch alone.
const base = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation/`;

for (;;) {
  const next = await fetch(base + "next");
  const id = next.headers.get("lambda-runtime-aws-request-id");
  const event = await next.json();
  if (event.Do === "error") {
    const body = JSON.stringify({ errorMessage: event.Text, errorType: "Error", trace: [] });
    await (await fetch(`${base}${id}/error`, { method: "POST", body })).text();
    continue;
  }
  const body = JSON.stringify({ Pid: process.pid, Text: event.Text ?? "" });
  await (await fetch(`${base}${id}/response`, { method: "POST", body })).text();
}

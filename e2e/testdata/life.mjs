// A function's life by AWS's SDK for JavaScript. Arguments: endpoint, region,
// the image to create it from, the one to update it to. It ends with status 0
// if everything was as Lambda has it.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

// The SDK is installed outside of the source tree.
const require = createRequire(process.env.SDK_FROM + "/");
const { Lambda, waitUntilFunctionActiveV2, waitUntilFunctionUpdatedV2 } = require("@aws-sdk/client-lambda");

const [endpoint, region, image, next] = process.argv.slice(2);
const lambda = new Lambda({ endpoint, region, maxAttempts: 1 });
const FunctionName = "js";
const waiter = { client: lambda, maxWaitTime: 120, minDelay: 1, maxDelay: 1 };
const invoke = async (event) => {
  const answer = await lambda.invoke({ FunctionName, Payload: JSON.stringify(event), LogType: "Tail" });
  assert.equal(answer.StatusCode, 200);
  assert.equal(answer.FunctionError, undefined);
  assert.match(Buffer.from(answer.LogResult, "base64").toString(), /START RequestId: .*\n[^]*END RequestId: .*\nREPORT RequestId: /);
  const reply = JSON.parse(Buffer.from(answer.Payload).toString());
  assert.equal(reply.requestId, answer.$metadata.requestId);
  return reply;
};

await lambda.createFunction({
  FunctionName, PackageType: "Image", Code: { ImageUri: image }, Role: "arn:aws:iam::000000000000:role/any", Timeout: 30,
});
await waitUntilFunctionActiveV2(waiter, { FunctionName });
assert.equal((await invoke({ name: "js" })).greeting, "hello js");

const before = (await lambda.getFunction({ FunctionName })).Configuration;
const updated = await lambda.updateFunctionCode({ FunctionName, ImageUri: next });
assert.notEqual(updated.CodeSha256, before.CodeSha256);
await waitUntilFunctionUpdatedV2(waiter, { FunctionName });
assert.equal((await invoke({ name: "again" })).greeting, "hello again");

await lambda.deleteFunction({ FunctionName });
await assert.rejects(lambda.invoke({ FunctionName, Payload: "{}" }), (error) => error.name === "ResourceNotFoundException");

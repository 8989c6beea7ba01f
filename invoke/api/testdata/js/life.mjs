// Drives a function's life with the JavaScript SDK. Arguments: endpoint, image.
// It ends with status 0 if everything was as Lambda has it.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

// The SDK is installed outside of the source tree.
const require = createRequire(process.env.SDK_FROM + "/");
const { Lambda, waitUntilFunctionActiveV2, waitUntilFunctionUpdatedV2 } = require("@aws-sdk/client-lambda");

const [endpoint, image] = process.argv.slice(2);
const lambda = new Lambda({ endpoint, region: "us-east-1", maxAttempts: 1 });
const FunctionName = "js";
const waiter = { client: lambda, maxWaitTime: 60, minDelay: 1, maxDelay: 1 };

const created = await lambda.createFunction({
  FunctionName, PackageType: "Image", Code: { ImageUri: image },
  Role: "arn:aws:iam::111111111111:role/any", MemorySize: 256, Environment: { Variables: { KEY: "value" } },
});
assert.equal(created.State, "Pending");
await waitUntilFunctionActiveV2(waiter, { FunctionName });

const invoked = await lambda.invoke({ FunctionName, Payload: JSON.stringify({ from: "js" }), LogType: "Tail" });
assert.equal(invoked.StatusCode, 200);
assert.equal(Buffer.from(invoked.Payload).toString(), '{"from":"js"}');
assert.match(Buffer.from(invoked.LogResult, "base64").toString(), /^START RequestId: /);
assert.equal(invoked.ExecutedVersion, "$LATEST");
assert.equal(invoked.$metadata.requestId.length, 36);

const thrown = await lambda.invoke({ FunctionName, Payload: JSON.stringify({ throw: "x" }) });
assert.equal(thrown.FunctionError, "Unhandled");

await lambda.updateFunctionCode({ FunctionName, ImageUri: image });
await waitUntilFunctionUpdatedV2(waiter, { FunctionName });
const configured = await lambda.updateFunctionConfiguration({ FunctionName, Timeout: 9 });
assert.equal(configured.Timeout, 9);
const { Functions } = await lambda.listFunctions({ MaxItems: 10 });
assert.deepEqual(Functions.map((f) => f.FunctionName), [FunctionName]);
await lambda.tagResource({ Resource: configured.FunctionArn, Tags: { a: "b c" } });
assert.deepEqual((await lambda.listTags({ Resource: configured.FunctionArn })).Tags, { a: "b c" });

const code = (name) => (error) => error.name === name && error.message.length > 0;
await assert.rejects(lambda.invoke({ FunctionName, Payload: "no json" }), code("InvalidRequestContentException"));
await assert.rejects(lambda.invoke({ FunctionName, Payload: '{"refuse":"throttled"}' }), code("TooManyRequestsException"));
await assert.rejects(lambda.invoke({ FunctionName, Payload: JSON.stringify("x".repeat(6 << 20)) }), code("RequestTooLargeException"));
await assert.rejects(lambda.getFunction({ FunctionName: "none" }), code("ResourceNotFoundException"));
await assert.rejects(lambda.publishVersion({ FunctionName }), code("NotImplementedException"));
await lambda.deleteFunction({ FunctionName });
await assert.rejects(lambda.getFunctionConfiguration({ FunctionName }), code("ResourceNotFoundException"));

// Asks a server beside it by AWS's SDK, which looks for credentials and
// settings in all the places that it knows.
import { once } from "node:events";
import http from "node:http";
import os from "node:os";

import { LambdaClient, ListFunctionsCommand } from "@aws-sdk/client-lambda";

export const handler = async (event) => {
  const seen = [];
  const server = http.createServer((request, response) => {
    seen.push({ method: request.method, path: request.url, authorization: request.headers.authorization });
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify({ Functions: [{ FunctionName: `hello ${event.name}` }] }));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const client = new LambdaClient({ endpoint: `http://127.0.0.1:${server.address().port}` });
  const { Functions } = await client.send(new ListFunctionsCommand({}));
  client.destroy();
  server.close();
  const user = os.userInfo();
  return { functions: Functions.map((f) => f.FunctionName), seen, user: user.username, home: user.homedir, processors: os.cpus().length };
};

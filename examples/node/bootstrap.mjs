// A runtime client: it asks the Runtime API for invocations and answers them
// with the handler named on the command line ("app.handler" is the export
// `handler` of ./app.mjs). AWS's aws-lambda-ric does the same, and runs too.
import http from 'node:http';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const api = process.env.AWS_LAMBDA_RUNTIME_API;
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function call(method, route, body, headers = {}) {
  const [host, port] = api.split(':');
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port, method, path: `/2018-06-01/runtime/${route}`, agent, headers }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('end', () => resolve({ headers: response.headers, body: Buffer.concat(parts) }));
    });
    request.on('error', reject);
    request.end(body);
  });
}

function describe(error) {
  return JSON.stringify({ errorType: error.name, errorMessage: error.message, stackTrace: String(error.stack).split('\n').slice(1) });
}

const [file, name] = (process.argv[2] || process.env._HANDLER || 'app.handler').split('.');
let handler;
try {
  handler = (await import(pathToFileURL(path.resolve(`${file}.mjs`)))) [name];
  if (typeof handler !== 'function') throw new Error(`${file}.mjs exports no function ${name}`);
} catch (error) {
  console.error(error);
  await call('POST', 'init/error', describe(error), { 'Lambda-Runtime-Function-Error-Type': 'Runtime.ImportModuleError' });
  process.exit(1);
}

for (;;) {
  const next = await call('GET', 'invocation/next');
  const id = next.headers['lambda-runtime-aws-request-id'];
  const context = { awsRequestId: id, getRemainingTimeInMillis: () => Number(next.headers['lambda-runtime-deadline-ms']) - Date.now() };
  try {
    const result = await handler(JSON.parse(next.body), context);
    await call('POST', `invocation/${id}/response`, JSON.stringify(result ?? null));
  } catch (error) {
    console.error(error);
    await call('POST', `invocation/${id}/error`, describe(error), { 'Lambda-Runtime-Function-Error-Type': error.name });
  }
}

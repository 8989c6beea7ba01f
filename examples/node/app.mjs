export async function handler(event, context) {
  if (event.fail) throw new RangeError('asked to fail');
  console.log(`greeting ${event.name ?? 'world'}`);
  return { greeting: `hello ${event.name ?? 'world'}`, runtime: `node ${process.version}`, requestId: context.awsRequestId };
}

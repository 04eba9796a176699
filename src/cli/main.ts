/**
 * Entry point of `ebb`. It imports nothing: what a verb waits for longest is started before the rest of us is loaded
 * (docs/decisions/0037-what-a-mount-waits-for-starts-first.md).
 */
const [verb, ...words] = process.argv.slice(2);
if (verb === 'image') (await import('./image/service.ts')).startImageServiceAhead(words);
const { runCommandLine } = await import('./command-line.ts');
await runCommandLine();

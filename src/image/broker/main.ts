/**
 * Entry point of the broker of one mount of a local image, started by `ebb image mount`: options on standard input, the
 * result on descriptor 3, the log on standard error. Lives until the mount is gone (docs/image.md, "Processes").
 */
import { runBroker } from './run.ts';

await runBroker(async (place, signal) => {
  const { text } = await import('node:stream/consumers');
  const { parseBrokerOptions } = await import('./options.ts');
  const { serveImage } = await import('./serve.ts');
  const options = parseBrokerOptions(await text(process.stdin));
  if (options.native) {
    const { mountNative } = await import('./native.ts');
    return { native: await mountNative(options, undefined, signal, place) };
  }
  return serveImage(options, place, undefined, signal);
});

/**
 * Entry point of the broker of one mount of a local image, started by `ebb image mount`: options on standard input, the
 * result on descriptor 3, the log on standard error. Lives until the mount is gone (docs/image.md, "Processes").
 */
import { text } from 'node:stream/consumers';
import { mountNative } from './native.ts';
import { parseBrokerOptions } from './options.ts';
import { runBroker } from './run.ts';
import { serveImage } from './serve.ts';

await runBroker(async (signal) => {
  const options = parseBrokerOptions(await text(process.stdin));
  if (options.native) return { native: await mountNative(options, undefined, signal) };
  return serveImage(options, undefined, undefined, signal);
});

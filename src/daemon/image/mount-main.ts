/**
 * Entry point of the broker of one mount of a remote image, started by `ebb image mount`: as src/image/broker/main.ts,
 * and it recalls the parts of the image that its server asks for.
 */
import { text } from 'node:stream/consumers';
import * as v from 'valibot';
import { toEbbError } from '../../base/errors.ts';
import { mountNative } from '../../image/broker/native.ts';
import { brokerOptionEntries } from '../../image/broker/options.ts';
import { log, runBroker } from '../../image/broker/run.ts';
import { serveImage } from '../../image/broker/serve.ts';
import { absolutePath, natural, parseLine, positive, remoteAccessEntries } from '../options.ts';
import { RecalledImage } from './recalled-image.ts';

const schema = v.object({
  ...brokerOptionEntries,
  access: v.object(remoteAccessEntries),
  cacheDirectory: v.optional(absolutePath),
  cacheSizeBytes: v.optional(positive),
  minFreeBytes: v.optional(natural),
});

async function closedAfter(
  ended: Promise<string | undefined>,
  image: RecalledImage,
): Promise<string | undefined> {
  const why = await ended;
  await close(image);
  return why;
}

/** What could not be written down is fetched again; why the mount ended, or that it is there, still has to be said. */
async function close(image: RecalledImage): Promise<void> {
  try {
    await image[Symbol.asyncDispose]();
  } catch (error) {
    log(`closing the cache: ${toEbbError(error).message}`);
  }
}

await runBroker(async (place, signal) => {
  const parsed = parseLine(schema, await text(process.stdin));
  const { access, cacheDirectory, cacheSizeBytes, minFreeBytes, ...options } = parsed;
  const image = await RecalledImage.open({
    url: options.imagePath,
    access,
    cacheDirectory,
    limits: { cacheSizeBytes, minFreeBytes },
    native: options.native,
    log,
    signal,
  });
  try {
    if (options.native) {
      const native = await mountNative(options, image.source, signal, place);
      await close(image);
      return { native };
    }
    const mounted = await serveImage(options, place, image.source, signal);
    return { ...mounted, ended: closedAfter(mounted.ended, image) };
  } catch (error) {
    image.source.image.close();
    await close(image);
    throw error;
  }
});

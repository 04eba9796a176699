/**
 * Entry point of the broker of one mount of a remote image, started by `ebb image mount`: as src/image/broker/main.ts,
 * and it recalls the parts of the image that its server asks for.
 */
import { text } from 'node:stream/consumers';
import * as v from 'valibot';
import { mountNative } from '../../image/broker/native.ts';
import { brokerOptionEntries } from '../../image/broker/options.ts';
import { log, runBroker } from '../../image/broker/run.ts';
import { serveImage } from '../../image/broker/serve.ts';
import { serverScript } from '../../image/broker/server-words.ts';
import { absolutePath, parseLine, remoteAccessEntries } from '../options.ts';
import { RecalledImage } from './recalled-image.ts';

const schema = v.object({
  ...brokerOptionEntries,
  access: v.object(remoteAccessEntries),
  cacheDirectory: v.optional(absolutePath),
});

async function closedAfter(
  ended: Promise<string | undefined>,
  image: RecalledImage,
): Promise<string | undefined> {
  const why = await ended;
  await image[Symbol.asyncDispose]();
  return why;
}

await runBroker(async () => {
  const { access, cacheDirectory, ...options } = parseLine(schema, await text(process.stdin));
  const image = await RecalledImage.open({
    url: options.imagePath,
    access,
    cacheDirectory,
    log,
  });
  try {
    if (options.native) {
      const native = await mountNative(options, image.source);
      await image[Symbol.asyncDispose]();
      return { native };
    }
    const place = { script: serverScript, args: [] };
    const mounted = await serveImage(options, place, image.source);
    return { ...mounted, ended: closedAfter(mounted.ended, image) };
  } catch (error) {
    image.source.image.close();
    await image[Symbol.asyncDispose]().catch(() => undefined);
    throw error;
  }
});

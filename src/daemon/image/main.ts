/**
 * Entry point behind `ebb image`: does one thing with one image. Reads an `ImageHelperRequest` as JSON from standard
 * input (it may hold secrets), writes `ImageLine`s to standard output and content to descriptor 3. Needs no root.
 *
 * A local image is read by this thread. A remote one is read by another, which sleeps while this one fetches.
 */
import { fstatSync, readFileSync } from 'node:fs';
import { MessageChannel, Worker } from 'node:worker_threads';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { isHttpUrl } from '../../base/http-url.ts';
import { fileDevice } from '../../ext4/block-device.ts';
import { openImageFile } from '../../image/image-file.ts';
import { runImageRequest } from '../../image/reader/run-request.ts';
import { BlockStore } from '../../image/remote-device/block-store.ts';
import { newChannelMemory } from '../../image/remote-device/channel.ts';
import { serveChannel } from '../../image/remote-device/serve.ts';
import { openRemote } from '../../remote/open-remote.ts';
import type { Remote } from '../../remote/remote.ts';
import { seek, Seek } from '../../sys/io.ts';
import type { ImageHelperRequest } from '../helper-api.ts';
import { locateImage } from './locate.ts';
import { descriptorOutput } from './output.ts';
import { requireVersion } from './ranges-only.ts';

const defaultRetries = 4;

async function main(): Promise<number> {
  const helperRequest = JSON.parse(readFileSync(0, 'utf8')) as ImageHelperRequest;
  try {
    const { source } = helperRequest;
    if (isHttpUrl(source)) return await readRemote(helperRequest);
    return readLocal(helperRequest);
  } catch (error) {
    const { code, message } = toEbbError(error);
    descriptorOutput.line({ error: { path: '', code, message, refused: false } });
    return 1;
  }
}

function readLocal({ source, request }: ImageHelperRequest): number {
  using image = openImageFile(source);
  const facts = fstatSync(image.fd);
  const sizeBytes = facts.isBlockDevice() ? seek(image.fd, 0, Seek.end) : facts.size;
  return runImageRequest(fileDevice(image.fd, sizeBytes), request, descriptorOutput);
}

async function readRemote({ source, access, request }: ImageHelperRequest): Promise<number> {
  const { directory, key } = locateImage(source);
  const { deadlineMs: _deadline, readAheadMaxBytes: _ahead, ...options } = access;
  const remote = await openRemote({ retries: defaultRetries, ...options, url: directory });
  try {
    const { signal } = new AbortController();
    const { kind, sizeBytes, version: known } = await remote.stat(key, { signal });
    if (kind !== 'file') throw ebbError('EISDIR', `${source} is no file.`);
    if (sizeBytes === undefined) {
      throw ebbError('EOPNOTSUPP', 'The server does not say how large the image is.');
    }
    const version = requireVersion(known);
    const fetch = (offsetBytes: number, into: Uint8Array): Promise<void> =>
      fetchRange(remote, key, offsetBytes, into, version, signal);
    const memory = newChannelMemory(sizeBytes);
    const { port1, port2 } = new MessageChannel();
    serveChannel(memory, port1, new BlockStore({ sizeBytes, fetch }));
    const worker = new Worker(new URL('./worker.ts', import.meta.url), {
      workerData: { memory, port: port2, request },
      transferList: [port2],
    });
    return await new Promise<number>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
      // Standard output was closed (0): it left without a word.
      worker.once('exit', resolve);
    });
  } finally {
    await remote.close();
  }
}

/** Bytes of one version only: an image that is replaced meanwhile ends in ESTALE. */
async function fetchRange(
  remote: Remote,
  key: string,
  offsetBytes: number,
  into: Uint8Array,
  version: string,
  signal: AbortSignal,
): Promise<void> {
  if (!remote.supportsRanges) {
    throw ebbError('EOPNOTSUPP', 'The server does not give ranges of a file: download the image.');
  }
  let done = 0;
  const sink = {
    head: (): void => {},
    buffer: (): Uint8Array => into.subarray(done),
    filled: (count: number): void => {
      done += count;
    },
  };
  const lengthBytes = into.byteLength;
  await remote.read(key, sink, { offsetBytes, lengthBytes, version, signal });
}

process.exit(await main());

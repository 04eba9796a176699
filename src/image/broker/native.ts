/**
 * `-o native`: the whole tree becomes a map, and that is mounted where the user wants it. Then nobody serves anything:
 * the kernel reads it all by itself, and no process of ours stays.
 */
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { imageMapSuffix } from '../../base/mount-info.ts';
import { openFd, OpenFlag } from '../../sys/fd.ts';
import { attachMount } from '../../sys/mount-tree.ts';
import { Capability, hasCapability } from '../../sys/process.ts';
import { mountMap } from '../erofs/mount-map.ts';
import type { PlainNode } from '../erofs/plain-node.ts';
import { readingAhead } from '../erofs/read-ahead.ts';
import { writeMap } from '../erofs/write-map.ts';
import { FrameType, mountedAnswer } from '../messages.ts';
import type { Opened, ServerRequest } from '../messages.ts';
import { serverScript } from '../sandbox/code-cache.ts';
import { startServer } from '../sandbox/start.ts';
import { TreeDecoder, treeTooLarge } from '../tree-message.ts';
import { areaOf, findMapDirectory } from './backings.ts';
import { ServerLink } from './frames.ts';
import type { Frame } from './frames.ts';
import type { BrokerOptions } from './options.ts';
import type { ServerPlace } from './serve.ts';
import { failureOf, nonsense, openedOf, parseFrame, withNotes } from './server-words.ts';
import { localSource } from './source.ts';
import type { ImageSource } from './source.ts';
import { writerNotes } from './writers.ts';

/** A tree of a million files takes a minute or two. */
const treeTimeoutMs = 600_000;
/** What the server may say of a tree: several times as much is held in memory. A million files are about half of it. */
const treeMaxBytes = 256 * 1024 * 1024;

interface Tree {
  readonly opened: Opened;
  readonly nodes: readonly PlainNode[];
}

/** Mounts, and leaves nothing behind but the mount. Throws EPERM, EUCLEAN, EOPNOTSUPP, EFBIG, ... Closes the source. */
export async function mountNative(
  options: BrokerOptions,
  source: ImageSource = localSource(options.imagePath),
  signal: AbortSignal = new AbortController().signal,
  place: ServerPlace = { script: serverScript.source, args: [] },
): Promise<Opened> {
  using image = source.image;
  const { imageBytes, recall } = source;
  if (!hasCapability(Capability.sysAdmin)) {
    throw ebbError(
      'EPERM',
      'A native mount of an image needs root; without -o native it does not.',
    );
  }
  // The kernel asks nobody: what is not here would be zeros.
  if (recall !== undefined && !recall.durable().has(0, imageBytes)) {
    throw ebbError(
      'EOPNOTSUPP',
      'The image is not wholly here, so the kernel cannot serve it alone: mount without -o native, or download it ' +
        'and mount the file.',
    );
  }
  const probeArea = { blockBytes: 4096, startBytes: 0, endBytes: 0 };
  const directory = findMapDirectory(image.fd, probeArea);
  if (directory === undefined) {
    throw ebbError(
      'EOPNOTSUPP',
      'This kernel cannot mount EROFS from a file (Linux 6.12, EROFS_FS_BACKED_BY_FILE): mount without -o native.',
    );
  }
  const { opened, nodes } = await readTree(options, place, source, signal);
  const { startBytes, blockBytes } = opened;
  const area = startBytes === undefined ? undefined : areaOf(imageBytes, blockBytes, startBytes);
  if (area === undefined) {
    throw ebbError('EOPNOTSUPP', 'Blocks of the image cannot be mapped: mount without -o native.');
  }
  const map = writeMap(nodes, area);
  // The name that mount(8) and /proc/self/mountinfo show, and by which ebb umount knows it.
  const names = mkdtempSync(path.join(os.tmpdir(), 'ebb-image-'));
  try {
    const name = path.join(names, `${path.basename(source.name)}${imageMapSuffix}`);
    const named = (target: string): string => {
      symlinkSync(target, name);
      return name;
    };
    using mounted = readingAhead(() => mountMap(map, image.fd, directory, named));
    attachMount(mounted.fd, options.mountPoint);
  } finally {
    rmSync(names, { recursive: true, force: true });
  }
  return withNotes(opened, { notes: writerNotes(source) });
}

async function readTree(
  options: BrokerOptions,
  place: ServerPlace,
  { image, imageBytes }: ImageSource,
  signal: AbortSignal,
): Promise<Tree> {
  const request: ServerRequest = {
    imageBytes,
    offsetBytes: options.offsetBytes,
    partition: options.partition,
    journal: options.journal,
    mode: 'tree',
  };
  using nothing = openFd('/dev/null', OpenFlag.rdwr);
  using server = await startServer({
    ...place,
    args: [JSON.stringify(request), ...place.args],
    deviceFd: nothing.fd,
    imageFd: image.fd,
  });
  const { promise, resolve, reject } = Promise.withResolvers<Tree>();
  const tree = new TreeDecoder();
  let opened: Opened | undefined;
  let saidBytes = 0;
  const take = ({ type, payload }: Frame): void => {
    saidBytes += payload.length;
    if (type === FrameType.opened) {
      opened = openedOf(parseFrame(payload));
      link.answer(mountedAnswer.plain);
    } else if (type === FrameType.failed) reject(failureOf(payload));
    else if (type !== FrameType.tree || opened === undefined) reject(ebbError('EPROTO', nonsense));
    else if (saidBytes > treeMaxBytes) reject(treeTooLarge());
    else if (tree.take(parseFrame(payload)))
      resolve({ opened: withNotes(opened, server), nodes: tree.nodes });
  };
  const link = new ServerLink(server.socket.release(), take, (error) => {
    reject(
      error === undefined ? ebbError('EIO', 'The server of the image died.') : toEbbError(error),
    );
  });
  const timer = setTimeout(
    () => reject(ebbError('ETIMEDOUT', 'The tree took too long.')),
    treeTimeoutMs,
  );
  const stop = (): void => reject(toEbbError(signal.reason));
  signal.addEventListener('abort', stop);
  try {
    if (signal.aborted) stop();
    return await promise;
  } finally {
    signal.removeEventListener('abort', stop);
    clearTimeout(timer);
    link.close();
  }
}

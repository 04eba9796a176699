/**
 * Entry point of the process that reads the image. It has /dev/fuse, the image and a socket to the broker, and no way
 * to anything else (sandbox/). Argument: a `ServerRequest` as JSON. In mode `load` it ends when it is loaded.
 */
import { toEbbError } from '../../base/errors.ts';
import type { Inode, Volume } from '../../ext4/volume.ts';
import { Notifier } from '../../fuse/notifier.ts';
import { Session } from '../../fuse/session.ts';
import { InheritedFd } from '../sandbox/inherited.ts';
import type { ServerRequest } from '../messages.ts';
import {
  passGate,
  recallSource,
  releaseBacking,
  requestBacking,
  requestBackingAgain,
  sayEnded,
  sayFailed,
  sayOpened,
  sayServing,
  sendTree,
  waitForMount,
  waitForTheEnd,
} from './broker-link.ts';
import { plainTransport, serveDevice } from './device.ts';
import { ImageFileSystem } from './filesystem.ts';
import { RecalledLoop, startPool } from './recalled-loop.ts';
import { treeNodes } from './tree-walk.ts';
import { treePieces } from '../tree-message.ts';
import { openImage } from './open.ts';
import type { OpenImage } from './open.ts';

/** Entries of the root directory whose inodes are brought, or read, before anybody lists it. */
const firstListingEntries = 256;
/** A root directory that is larger is not looked at while the broker mounts. */
const firstListingMaxBytes = 64 * 1024;

/** Resolves when the mount is gone. `passthrough`: large files can be mapped. */
async function serve(image: OpenImage, passthrough: boolean): Promise<void> {
  const waiting = image.recalled === undefined ? undefined : new RecalledLoop(image.recalled);
  const transport = plainTransport(InheritedFd.device);
  const notifier = new Notifier(transport);
  const session = new Session(
    new ImageFileSystem(image, InheritedFd.image, {
      prune: (nodeIds) => notifier.prune(nodeIds),
      backings: passthrough ? backings : undefined,
      readAheadMaxBytes: request.recall?.readAheadMaxBytes,
      ...(waiting === undefined ? {} : { waiting }),
    }),
    transport,
    {
      dataInvalidation: 'explicit',
      cacheSymlinks: true,
      posixAcls: true,
      noOpendir: true,
      // The file system decides when. Read-ahead of a remote image is an open file's.
      noOpen: waiting === undefined,
      passthrough,
      // The backings are on EROFS over a file, which is itself a layer.
      maxStackDepth: 2,
    },
  );
  if (waiting === undefined) serveDevice(InheritedFd.device, session, sayServing);
  else await waiting.serve(session, InheritedFd.device, InheritedFd.notices, sayServing);
  sayEnded();
}

/** The first thing that anybody asks for comes before the mount is there: its directory, and the inodes in it. */
function bringFirstListing(volume: Volume, root: Inode): void {
  const numbers: number[] = [];
  try {
    for (const { inodeNumber } of volume.entries(root, 0)) {
      numbers.push(inodeNumber);
      if (numbers.length === firstListingEntries) break;
    }
  } catch {
    // Whoever lists it hears of it.
  }
  volume.prefetchInodes(numbers);
}

/**
 * The same of a local image, while the broker mounts and whoever waits for that starts: code that runs for the first
 * time is slow.
 */
function readFirstListing(volume: Volume, root: Inode): void {
  if (root.sizeBytes > firstListingMaxBytes) return;
  let count = 0;
  try {
    for (const entry of volume.entries(root, 0)) {
      volume.child(root, entry);
      count += 1;
      if (count === firstListingEntries) break;
    }
  } catch {
    // Whoever lists it hears of it.
  }
}

const backings = {
  request: requestBacking,
  again: requestBackingAgain,
  release: releaseBacking,
};
const request = JSON.parse(process.argv[2] ?? '') as ServerRequest;
if (request.mode === 'load') process.exit(0);
if (request.recall !== undefined) await startPool();
passGate();
try {
  const image = openImage(InheritedFd.image, request, recallSource);
  const { superblock } = image.volume;
  const root = image.volume.root();
  if (image.recalled !== undefined) bringFirstListing(image.volume, root);
  sayOpened({
    blockBytes: superblock.blockSizeBytes,
    startBytes: image.startBytes,
    label: superblock.label,
    uuid: superblock.uuid,
    notes: image.notes,
  });
  if (image.recalled === undefined && request.mode === 'serve')
    readFirstListing(image.volume, root);
  const mounted = waitForMount();
  if (mounted !== undefined && request.mode === 'tree') {
    for (const piece of treePieces(treeNodes(image))) sendTree(piece);
  } else if (mounted !== undefined) await serve(image, mounted === 'mapped');
} catch (error) {
  const { code, message } = toEbbError(error);
  sayFailed({ code, message });
}
waitForTheEnd();

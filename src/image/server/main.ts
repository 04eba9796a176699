/**
 * Entry point of the process that reads the image. It has /dev/fuse, the image and a socket to the broker, and no way
 * to anything else (sandbox/). Argument: a `ServerRequest` as JSON.
 */
import { toEbbError } from '../../base/errors.ts';
import { Session } from '../../fuse/session.ts';
import { InheritedFd } from '../sandbox/inherited.ts';
import type { ServerRequest } from '../messages.ts';
import {
  passGate,
  releaseBacking,
  requestBacking,
  sayEnded,
  sayFailed,
  sayOpened,
  sendTree,
  waitForTheEnd,
} from './broker-link.ts';
import { plainTransport, serveDevice } from './device.ts';
import { ImageFileSystem } from './filesystem.ts';
import { approximateBytes, treeNodes } from './tree-walk.ts';
import { encodeNode } from '../tree-message.ts';
import { openImage } from './open.ts';
import type { OpenImage } from './open.ts';

const pieceBytes = 1024 * 1024;

function serve(image: OpenImage): void {
  const session = new Session(
    new ImageFileSystem(image, InheritedFd.image, request.passthrough ? backings : undefined),
    plainTransport(InheritedFd.device),
    {
      dataInvalidation: 'explicit',
      cacheSymlinks: true,
      posixAcls: true,
      passthrough: request.passthrough,
      // The backings are on EROFS over a file, which is itself a layer.
      maxStackDepth: 2,
    },
  );
  serveDevice(InheritedFd.device, session);
  sayEnded();
}

/** In pieces: a frame has a largest size. */
function sendWholeTree(image: OpenImage): void {
  let piece: ReturnType<typeof encodeNode>[] = [];
  let sizeBytes = 0;
  for (const node of treeNodes(image)) {
    const message = encodeNode(node);
    piece.push(message);
    sizeBytes += approximateBytes(node);
    if (sizeBytes < pieceBytes) continue;
    sendTree({ nodes: piece, isLast: false });
    piece = [];
    sizeBytes = 0;
  }
  sendTree({ nodes: piece, isLast: true });
}

const backings = { request: requestBacking, release: releaseBacking };
const request = JSON.parse(process.argv[2] ?? '') as ServerRequest;
passGate();
try {
  const image = openImage(InheritedFd.image, request);
  const { superblock } = image.volume;
  image.volume.root();
  const isMounted = sayOpened({
    blockBytes: superblock.blockSizeBytes,
    startBytes: image.startBytes,
    label: superblock.label,
    uuid: superblock.uuid,
    notes: image.notes,
  });
  if (isMounted && request.mode === 'tree') sendWholeTree(image);
  else if (isMounted) serve(image);
} catch (error) {
  const { code, message } = toEbbError(error);
  sayFailed({ code, message });
}
waitForTheEnd();

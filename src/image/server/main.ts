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
  waitForTheEnd,
} from './broker-link.ts';
import { plainTransport, serveDevice } from './device.ts';
import { ImageFileSystem } from './filesystem.ts';
import { openImage } from './open.ts';
import type { OpenImage } from './open.ts';

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
  if (isMounted) serve(image);
} catch (error) {
  const { code, message } = toEbbError(error);
  sayFailed({ code, message });
}
waitForTheEnd();

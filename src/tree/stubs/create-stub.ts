/** Making stubs. */
import { StubChange } from '../../base/stub-facts.ts';
import type { StubFacts } from '../../base/stub-facts.ts';
import { fchmodSync, fchownSync } from 'node:fs';

import { ebbError, toEbbError } from '../../base/errors.ts';
import { linkFile } from '../../sys/entries.ts';
import { OpenFlag, openFd } from '../../sys/fd.ts';
import { fileStatus, setFileTimes } from '../../sys/stat.ts';
import { filesystemStatus } from '../../sys/statfs.ts';
import { setXattr } from '../../sys/xattr.ts';
import { identityOf } from '../identity.ts';
import type { MarkSeal } from '../mark.ts';
import { Residency, chunkBytesDefault, chunkBytesFor } from '../residency.ts';
import { truncateFile } from '../truncate.ts';
import type { PoisonFiles } from './poison.ts';
import { writeStubMark } from './stub-mark.ts';
import type { NewStub } from './stub-store.ts';

export interface StubMaking {
  readonly seal: MarkSeal;
  /** Undefined: stubs are holes. */
  readonly poison: PoisonFiles | undefined;
  /** Default `chunkBytesDefault`. */
  readonly chunkBytes?: number | undefined;
}

const slash = 0x2f;

/**
 * Makes the file without a name, and gives it the name when all is done: whatever happens in between, power cuts
 * included, nobody ever finds a stub without its mark, or half of one. Throws as `StubStore.create`.
 */
export function createStub(
  directoryFd: number,
  name: Uint8Array,
  stub: NewStub,
  { seal, poison, chunkBytes }: StubMaking,
): StubFacts {
  if (name.length === 0 || name.includes(slash) || name.includes(0)) {
    throw ebbError('EINVAL', `"${Buffer.from(name).toString()}" cannot be the name of a file.`);
  }
  using fd = openFd('.', OpenFlag.tmpfile | OpenFlag.rdwr, 0o600, directoryFd);
  if (poison === undefined) truncateFile(fd.fd, stub.sizeBytes);
  else {
    poison.trim(fd.fd, stub.sizeBytes);
    poison.coverNew(fd.fd, stub.sizeBytes);
  }
  setAttributes(fd.fd, stub);
  // Both times: setting mtime alone raises FAN_MODIFY (fsnotify_change(), Linux 6.18), one for each stub of a tree.
  setFileTimes(fd.fd, 'now', stub.mtime);
  // What became of it counts: ext4 with small inodes keeps no nanoseconds, and all have a first and a last year.
  const { mtime } = fileStatus(fd.fd);
  const facts = factsOfNewStub({ ...stub, mtime }, identityOf(fd.fd), chunkBytes);
  // As long as the mark is short enough it has the room in the inode for itself.
  writeStubMark(fd.fd, { ...facts, mtime }, seal);
  for (const [attribute, value] of stub.xattrs ?? []) setAttribute(fd.fd, attribute, value);
  linkFile(fd.fd, directoryFd, name);
  return facts;
}

/** What is known of a stub that was made: nothing of it is here. */
export function factsOfNewStub(
  stub: NewStub,
  handle: Uint8Array,
  startBytes: number = chunkBytesDefault,
): StubFacts {
  const chunkBytes = chunkBytesFor(stub.sizeBytes, startBytes);
  const residency = Residency.create(stub.sizeBytes, chunkBytes);
  return {
    id: stub.id,
    handle,
    key: stub.key,
    version: stub.version,
    sizeBytes: stub.sizeBytes,
    mtimeSeconds: stub.mtime.seconds,
    mtimeNanoseconds: stub.mtime.nanoseconds,
    chunkBytes,
    bitmap: residency.encode(),
    residentBytes: 0,
    complete: residency.complete,
    change: StubChange.clean,
    ctimeSeconds: 0,
    ctimeNanoseconds: 0,
    pinned: false,
  };
}

/** A file system with so much room left is not full. */
const attributeRoomBytes = 1024 * 1024;

/**
 * ext4 and btrfs say ENOSPC when a file has more attributes than one of theirs can have, however much room there is:
 * EFBIG then, which is about this file alone.
 */
function setAttribute(fd: number, name: string, value: Uint8Array): void {
  try {
    setXattr(fd, name, value);
  } catch (error) {
    const { code } = toEbbError(error);
    if (code !== 'ENOSPC' || filesystemStatus(fd).availableBytes < attributeRoomBytes) throw error;
    const message = `its attribute ${name} has ${value.length} bytes`;
    throw ebbError('EFBIG', message, { cause: error });
  }
}

/** Owner first: chown(2) takes the set-id bits away. Asking whose it is costs a tenth of giving it to him. */
function setAttributes(fd: number, { uid, gid, mode }: NewStub): void {
  try {
    const own = fileStatus(fd);
    const isTheirs = (uid ?? own.uid) === own.uid && (gid ?? own.gid) === own.gid;
    if (!isTheirs) fchownSync(fd, uid ?? -1, gid ?? -1);
    fchmodSync(fd, mode);
  } catch (error) {
    throw toEbbError(error);
  }
}

/**
 * The mark of a stub: `trusted.ebb`, which users neither see nor change nor copy. Written before the stub has a name,
 * and never removed while content is missing: a stub without its mark would be read as if it were a file.
 *
 * The name of the remote is left out (the tree's id stands for it), because on xfs a short mark stays in the inode.
 */
import type { StubChange } from '../../base/stub-facts.ts';
import { toEbbError } from '../../base/errors.ts';
import { decodeName } from '../../base/name.ts';
import type { FileTime } from '../../sys/stat.ts';
import { handleInSubvolumeOf } from '../../sys/btrfs-handle.ts';
import { encodeHandle, handleOf } from '../../sys/handle.ts';
import type { FileHandle } from '../../sys/handle.ts';
import { getXattr, removeXattr, setXattr } from '../../sys/xattr.ts';
import { identityOf } from '../identity.ts';
import { MarkState, decodeMark, encodeMark } from '../mark.ts';
import type { Mark, MarkReading, MarkSeal } from '../mark.ts';

const attribute = 'trusted.ebb';

export interface StubMarkFacts {
  readonly id: number;
  readonly handle: Uint8Array;
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly mtime: FileTime;
  readonly chunkBytes: number;
  /** What is durably here. */
  readonly bitmap: Uint8Array;
  readonly residentBytes: number;
  readonly complete: boolean;
  readonly change: StubChange;
  readonly pinned: boolean;
}

/** Writes the mark, which moves ctime. Throws ENOSPC, EDQUOT, EIO, EROFS. */
export function writeStubMark(fd: number, facts: StubMarkFacts, seal: MarkSeal): void {
  const bytes = encodeMark(
    {
      treeId: seal.treeId,
      remoteId: '',
      contentId: facts.id,
      key: facts.key,
      version: facts.version,
      sizeBytes: facts.sizeBytes,
      chunkBytes: facts.chunkBytes,
      residentBytes: facts.residentBytes,
      state: stateOf(facts),
      pinned: facts.pinned,
      checksum: new Uint8Array(0),
      bitmap: facts.bitmap,
      stub: { change: facts.change, mtime: facts.mtime },
    },
    facts.handle,
    seal,
  );
  setXattr(fd, attribute, bytes);
}

/**
 * Undefined: no mark at all. A mark of another inode or tree is one that is not believed. `handle`: the inode's, if it
 * is known.
 */
export function readStubMark(
  fd: number,
  seal: MarkSeal,
  handle?: Uint8Array,
): MarkReading | undefined {
  const bytes = getXattr(fd, attribute);
  return bytes === undefined ? undefined : decodeMark(bytes, handle ?? identityOf(fd), seal);
}

/**
 * What its mark says of a file that a snapshot made of one of this tree's: the same inode, in another subvolume than
 * `treeFd`'s. Undefined for all others.
 */
export function markInSnapshot(fd: number, treeFd: number, seal: MarkSeal): Mark | undefined {
  const bytes = getXattr(fd, attribute);
  return bytes && markOfOriginal(bytes, handleOf(fd).handle, treeFd, seal);
}

function markOfOriginal(
  bytes: Uint8Array,
  handle: FileHandle,
  treeFd: number,
  seal: MarkSeal,
): Mark | undefined {
  const original = handleInSubvolumeOf(handle, handleOf(treeFd).handle);
  const reading = original && decodeMark(bytes, encodeHandle(original), seal);
  return reading?.ok === true ? reading.mark : undefined;
}

/** Any mark, also one that is not to be believed; undefined when nothing has the name. Opens nothing: no event. */
export function markAt(directoryFd: number, name: Uint8Array): Uint8Array | undefined {
  try {
    return getXattr(`/proc/self/fd/${directoryFd}/${decodeName(name)}`, attribute);
  } catch (error) {
    if (toEbbError(error).code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Without the catalog a file with this mark must not be taken for an ordinary one: it is a mark of this tree, or of a
 * stub in a snapshot, or damaged. One that was copied with its file, or is another tree's, means nothing.
 */
export function mayBeStub(
  bytes: Uint8Array,
  handle: FileHandle,
  treeFd: number,
  seal: MarkSeal,
): boolean {
  const reading = decodeMark(bytes, encodeHandle(handle), seal);
  return isOwn(reading) || markOfOriginal(bytes, handle, treeFd, seal) !== undefined;
}

/** A mark of this tree and inode, or one of which it cannot be told any more whose it is. */
export function hasOwnMark(fd: number, seal: MarkSeal): boolean {
  const reading = readStubMark(fd, seal);
  return reading !== undefined && isOwn(reading);
}

function isOwn(reading: MarkReading): boolean {
  if (reading.ok) return true;
  return reading.refusal !== 'of another tree' && reading.refusal !== 'copied from another file';
}

export function removeStubMark(fd: number): void {
  removeXattr(fd, attribute);
}

function stateOf({ complete, residentBytes }: StubMarkFacts): MarkState {
  if (complete) return MarkState.dual;
  return residentBytes > 0 ? MarkState.partial : MarkState.offline;
}

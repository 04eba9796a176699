/**
 * Whether a stub's record fits its inode. A catalog whose bytes were damaged, or whose log was lost in a crash, claims
 * what is not here, or calls a user's file clean; nothing in it tells. The mark and what lies in the file do: before
 * anything is read from a stub, or written into it, for the first time, they are asked.
 *
 * Only what no crash leaves behind is a contradiction. The mark says of a change first and forgets it last, so it may
 * say more than the record; but not `dirty`, or `intent`, of what is not wholly here, and not `clean` where the record
 * says otherwise of a stub. Poison and holes show that a claim is wrong (evidence.ts).
 */
import { StubChange } from '../../base/stub-facts.ts';
import { fileExtents } from '../../sys/fiemap.ts';
import { Seek, seek } from '../../sys/io.ts';
import { fileStatus, sameTime } from '../../sys/stat.ts';
import type { FileTime } from '../../sys/stat.ts';
import type { Mark, MarkSeal } from '../mark.ts';
import type { Residency } from '../residency.ts';
import { isPoisonAt } from './evidence.ts';
import { readStubMark } from './stub-mark.ts';

/** The record, as far as it matters here. */
export interface JudgedStub {
  readonly handle: Uint8Array;
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly mtime: FileTime;
  readonly change: StubChange;
  readonly residency: Residency;
}

const { clean, intent, dirty } = StubChange;

/** More extents, or runs of chunks, of one file are not looked at. */
const piecesMax = 4_096;
const extentsAtATime = 64;

/** What is wrong, for a sentence; undefined: nothing that shows. `fd`: the stub, open for reading. Throws EIO. */
export function contradictionOf(
  fd: number,
  stub: JudgedStub,
  seal: MarkSeal,
  hasPoison: boolean,
): string | undefined {
  const reading = readStubMark(fd, seal, stub.handle);
  // One that somebody took off, or put in its place, says nothing.
  const mark = reading?.ok === true ? reading.mark : undefined;
  if (mark !== undefined && !isSameObject(mark, stub)) return 'its mark names another content';
  const { sizeBytes, mtime } = fileStatus(fd);
  // Then it is not the record that decides what it is.
  if (sizeBytes !== stub.sizeBytes) return undefined;
  const { residency, change } = stub;
  const marked = mark?.stub?.change;
  const isMarkedAsWritten = marked === dirty || marked === intent;
  if (change === clean && isMarkedAsWritten && !residency.complete) {
    return 'its mark says that a user may have changed it';
  }
  if (change !== clean && marked === clean && lacksAny(fd, [wholeOf(stub)], hasPoison)) {
    return 'its mark says that nobody changed it';
  }
  if (change !== clean || residency.residentChunks === 0) return undefined;
  // What users wrote may have holes, too.
  if (!hasPoison && !sameTime(mtime, stub.mtime)) return undefined;
  const claims = residency.runs().map((run) => residency.bytesOf(run));
  return lacksAny(fd, claims, hasPoison) ? 'not all is here that it claims' : undefined;
}

function isSameObject(mark: Mark, { key, version, sizeBytes, mtime }: JudgedStub): boolean {
  if (mark.key !== null && mark.key !== key) return false;
  if (mark.version !== version || mark.sizeBytes !== sizeBytes) return false;
  return mark.stub === undefined || sameTime(mark.stub.mtime, mtime);
}

interface Piece {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

function wholeOf({ sizeBytes }: JudgedStub): Piece {
  return { offsetBytes: 0, lengthBytes: sizeBytes };
}

function lacksAny(fd: number, pieces: readonly Piece[], hasPoison: boolean): boolean {
  return pieces
    .slice(0, piecesMax)
    .some((piece) => (hasPoison ? hasSharedPoison(fd, piece) : hasHole(fd, piece)));
}

function hasHole(fd: number, { offsetBytes, lengthBytes }: Piece): boolean {
  if (lengthBytes === 0) return false;
  const hole = seek(fd, offsetBytes, Seek.hole);
  return hole >= 0 && hole < offsetBytes + lengthBytes;
}

/** Stubs share their poison, so only blocks that are shared have to be read. */
function hasSharedPoison(fd: number, { offsetBytes, lengthBytes }: Piece): boolean {
  const end = offsetBytes + lengthBytes;
  for (let at = offsetBytes, seen = 0; at < end && seen < piecesMax; seen += extentsAtATime) {
    const extents = fileExtents(fd, at, end - at, extentsAtATime);
    for (const { logicalBytes, lengthBytes: extentBytes, isShared } of extents) {
      const from = Math.max(logicalBytes, offsetBytes);
      if (isShared && from < end && isPoisonAt(fd, from, end - from)) return true;
      at = logicalBytes + extentBytes;
    }
    if (extents.length < extentsAtATime) return false;
  }
  return false;
}

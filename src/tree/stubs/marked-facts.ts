/**
 * What a stub's mark says without the catalog, as far as it is certain. For a stub that lost its record, and `rebuild`.
 *
 * Claims: on poison, that a block is allocated says nothing, so only the mark's own claim counts. It is right because
 * the mark is raised after the bytes are on the disk and the catalog knows (durability.ts), and lowered before the
 * first block of it goes, in the same journal, which keeps that order over a power cut (release.ts). What reads as
 * poison, or is a hole, is not here whatever the mark says; that can only take claims away.
 *
 * Changes: a file that a writer had been let into is taken for the user's own (`dirty`), as the ctime from which he
 * could be told not to have written was the catalog's. One that was to be cut off (`discarding`) is not whole: whether
 * it was is seen from what lies in it (evidence.ts).
 */
import { StubChange } from '../../base/stub-facts.ts';
import type { StubFacts } from '../../base/stub-facts.ts';
import { EbbError } from '../../base/errors.ts';
import { fileStatus } from '../../sys/stat.ts';
import type { FileStatus } from '../../sys/stat.ts';
import { identityOf } from '../identity.ts';
import type { Mark, MarkSeal, StubMark } from '../mark.ts';
import { Residency } from '../residency.ts';
import { lacksBytes, wasCutOff } from './evidence.ts';
import { readStubMark } from './stub-mark.ts';

export type MarkedFile =
  | { readonly facts: StubFacts }
  /** `isOurs`: a mark of this tree and inode, of which nothing can be made. */
  | { readonly why: string; readonly isOurs: boolean };

/** What the file is by its mark; undefined: an ordinary file without one. Throws EIO. */
export function inspectMarked(
  fd: number,
  seal: MarkSeal,
  hasPoison: boolean,
): MarkedFile | undefined {
  const reading = readStubMark(fd, seal);
  if (reading === undefined) return undefined;
  if (!reading.ok) return { why: `mark not believed: ${reading.refusal}`, isOurs: false };
  const { mark } = reading;
  if (mark.stub === undefined) return { why: 'not the mark of a stub', isOurs: false };
  if (mark.key === null) return { why: 'key too long for the mark', isOurs: true };
  const status = fileStatus(fd);
  const isSize = status.sizeBytes === mark.sizeBytes;
  const residency = claimed(mark);
  const change = isSize ? changeOf(fd, mark.stub, residency, status, hasPoison) : 3;
  if (isSize) dropWhatIsNotThere(fd, residency, hasPoison);
  return {
    facts: {
      id: mark.contentId,
      handle: identityOf(fd),
      key: mark.key,
      version: mark.version,
      sizeBytes: mark.sizeBytes,
      mtimeSeconds: mark.stub.mtime.seconds,
      mtimeNanoseconds: mark.stub.mtime.nanoseconds,
      chunkBytes: mark.chunkBytes,
      bitmap: residency.encode(),
      residentBytes: residency.residentBytes,
      complete: residency.complete,
      change,
      ctimeSeconds: 0,
      ctimeNanoseconds: 0,
      pinned: mark.pinned,
    },
  };
}

/**
 * Whether a file that a snapshot made of one of the tree's lacks content: it is a stub, wholly or in part, and nobody
 * recalls anything into it. What users had been let write to, or had changed, was whole.
 */
export function lacksContentInSnapshot(fd: number, mark: Mark, hasPoison: boolean): boolean {
  if (mark.stub === undefined) return true;
  const { change } = mark.stub;
  if (change === StubChange.intent || change === StubChange.dirty) return false;
  const claims = claimed(mark);
  const status = fileStatus(fd);
  if (change === StubChange.discarding) {
    const before = { mtime: mark.stub.mtime, residency: claims };
    return wasCutOff(fd, status, before, hasPoison) !== true;
  }
  // All of it was here, so whatever lies in it now is what its users saw.
  if (claims.complete && status.sizeBytes === mark.sizeBytes) {
    dropWhatIsNotThere(fd, claims, hasPoison);
  }
  return !claims.complete;
}

function claimed(mark: Mark): Residency {
  const none = Residency.create(mark.sizeBytes, mark.chunkBytes);
  if (mark.bitmap === null) return none;
  try {
    return Residency.decode(mark.bitmap, mark.sizeBytes, mark.chunkBytes);
  } catch (error) {
    if (error instanceof EbbError) return none;
    throw error;
  }
}

function changeOf(
  fd: number,
  { mtime, change }: StubMark,
  claims: Residency,
  status: FileStatus,
  hasPoison: boolean,
): StubChange {
  if (change === StubChange.clean) return StubChange.clean;
  const cutOff =
    change !== StubChange.discarding ||
    wasCutOff(fd, status, { mtime, residency: claims }, hasPoison);
  return cutOff === false ? StubChange.clean : StubChange.dirty;
}

function dropWhatIsNotThere(fd: number, residency: Residency, hasPoison: boolean): void {
  for (const run of residency.runs()) {
    for (let chunk = run.first; chunk < run.first + run.count; chunk += 1) {
      const { offsetBytes, lengthBytes } = residency.bytesOf({ first: chunk, count: 1 });
      if (lacksBytes(fd, offsetBytes, lengthBytes, hasPoison)) residency.unmark(chunk, 1);
    }
  }
}

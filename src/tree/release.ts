/**
 * Release (invariant I6): frees the local blocks of a content whose remote copy was just proven.
 *
 * The order, and why:
 *   1. refuse what is pinned, busy or not provable; commit what is queued, so that nothing is claimed later;
 *   2. shut the gate in this process and close our own descriptors;
 *   3. take a write lease (F_SETLEASE F_WRLCK): the kernel grants it only when nobody has the file open or mapped,
 *      not even through FUSE passthrough with a closed descriptor; from now on an opener waits for us;
 *   4. record durably that nothing is here (catalog, then mark);
 *   5. if an opener is waiting, put the record back and let it in: the bytes are still there;
 *   6. punch the blocks, drop the lease. Who opens now finds a stub.
 * A crash after 4 leaves blocks that nobody claims; they are overwritten by the next recall.
 */
import { EbbError, toEbbError } from '../base/errors.ts';
import { punchHole } from '../sys/fallocate.ts';
import { syncFile } from '../sys/file-io.ts';
import { dropLease, leaseKind, tryLease } from '../sys/lease.ts';
import { fileStatus } from '../sys/stat.ts';
import type { ContentStore } from './content-store.ts';
import type { ResidencyRow } from './durability.ts';
import { Residency } from './residency.ts';
import type { StoredContent } from './stored-content.ts';
import { truncateFile } from './truncate.ts';

export type ReleaseRefusal =
  | 'pinned'
  | 'busy'
  | 'not proven'
  | 'open'
  | 'opened meanwhile'
  | 'no leases'
  | 'failed';

export type ReleaseResult =
  | { readonly released: true; readonly freedBytes: number }
  | {
      readonly released: false;
      readonly refusal: ReleaseRefusal;
      /** A sentence for people. */
      readonly message: string;
      /** The errno that says it best; retryable when it may pass by itself. */
      readonly error: EbbError | undefined;
    };

/** What the remote says of the object now. */
export interface RemoteProof {
  readonly version: string;
  readonly sizeBytes: number;
}

export interface ReleaseRequest {
  /** Asks the remote now. Rejects when the object is gone or the remote cannot be asked. */
  readonly prove: (content: StoredContent) => Promise<RemoteProof>;
  /** True while it is open through the mount, or a recall is under way. Asked several times. */
  readonly isBusy: (contentId: number) => boolean;
}

/** Never throws for what the outside world does: every refusal is a result. */
export async function releaseContent(
  store: ContentStore,
  content: StoredContent,
  request: ReleaseRequest,
): Promise<ReleaseResult> {
  try {
    const early = refuseEarly(content, request);
    if (early !== undefined) return early;
    const unproven = await proveRemoteCopy(content, request);
    if (unproven !== undefined) return unproven;
    await store.log.settled(content.id);
    const late = refuseEarly(content, request);
    if (late !== undefined) return late;
    using gate = store.beginRelease(content);
    if (gate === undefined) return refused('busy', `${content.key} is in use.`);
    return await releaseBehindGate(store, content, request);
  } catch (error) {
    const known = toEbbError(error);
    return refused('failed', known.message, known);
  }
}

function refuseEarly(content: StoredContent, request: ReleaseRequest): ReleaseResult | undefined {
  if (content.pinned) return refused('pinned', `${content.key} is pinned: unpin it first.`);
  if (request.isBusy(content.id)) return refused('busy', `${content.key} is in use.`);
  return undefined;
}

async function proveRemoteCopy(
  content: StoredContent,
  request: ReleaseRequest,
): Promise<ReleaseResult | undefined> {
  let proof: RemoteProof;
  try {
    proof = await request.prove(content);
  } catch (error) {
    const known = toEbbError(error);
    const message = `That the remote has ${content.key} could not be verified: ${known.message}`;
    return refused('not proven', message, known);
  }
  if (proof.version === content.version && proof.sizeBytes === content.sizeBytes) return undefined;
  const message = `The remote has another version of ${content.key}: this may be the last copy.`;
  return refused('not proven', message);
}

async function releaseBehindGate(
  store: ContentStore,
  content: StoredContent,
  request: ReleaseRequest,
): Promise<ReleaseResult> {
  using file = store.openForRelease(content);
  try {
    if (!tryLease(file.fd, 'write')) {
      return refused('open', `${content.key} is open or mapped by somebody.`);
    }
  } catch (error) {
    const known = toEbbError(error);
    const message = `The file system of the cache cannot prove that nobody uses ${content.key}.`;
    return refused('no leases', message, known);
  }
  try {
    return await releaseUnderLease(store, content, request, file.fd);
  } finally {
    dropLease(file.fd);
  }
}

async function releaseUnderLease(
  store: ContentStore,
  content: StoredContent,
  request: ReleaseRequest,
  fd: number,
): Promise<ReleaseResult> {
  const somebodyWants = (): boolean => leaseKind(fd) !== 'write' || request.isBusy(content.id);
  if (somebodyWants()) return refused('opened meanwhile', `${content.key} was just opened.`);

  const before = content.residency.snapshot();
  content.residency.clear();
  try {
    const recorded = await recordNothingHere(store, content, fd);
    if (!recorded || somebodyWants()) {
      putBack(store, content, before, fd);
      if (!recorded) return refused('failed', `The mark of ${content.key} cannot be changed.`);
      return refused('opened meanwhile', `${content.key} was just opened.`);
    }
  } catch (error) {
    // Whether the record changed is not known; the bytes are all still there, so the old claim is true.
    putBack(store, content, before, fd);
    throw error;
  }
  const freedBytes = fileStatus(fd).allocatedBytes;
  freeBlocks(fd, content.sizeBytes);
  return { released: true, freedBytes: Math.max(freedBytes - fileStatus(fd).allocatedBytes, 0) };
}

/** False when a mark that says more than the truth could not be changed. */
async function recordNothingHere(
  store: ContentStore,
  content: StoredContent,
  fd: number,
): Promise<boolean> {
  const { sizeBytes, chunkBytes } = content.residency;
  const row = rowOf(content.id, Residency.create(sizeBytes, chunkBytes));
  store.commit([row]);
  if (!store.marks.write(content, row, fd)) return false;
  await syncFile(fd);
  return true;
}

/** The bytes were never touched: what was resident before, is. */
function putBack(store: ContentStore, content: StoredContent, before: Residency, fd: number): void {
  for (const { first, count } of before.runs()) content.residency.markResident(first, count);
  const row = rowOf(content.id, before);
  store.commit([row]);
  store.marks.write(content, row, fd);
}

function rowOf(id: number, residency: Residency): ResidencyRow {
  const { residentBytes, complete } = residency;
  return { id, bitmap: residency.encode(), residentBytes, complete };
}

function freeBlocks(fd: number, sizeBytes: number): void {
  if (sizeBytes === 0) return;
  try {
    punchHole(fd, 0, sizeBytes);
  } catch (error) {
    if (!(error instanceof EbbError) || error.code !== 'EOPNOTSUPP') throw error;
    // No holes here: cutting the file off and growing it again frees the same blocks.
    truncateFile(fd, 0);
    truncateFile(fd, sizeBytes);
  }
}

function refused(refusal: ReleaseRefusal, message: string, error?: EbbError): ReleaseResult {
  return { released: false, refusal, message, error };
}

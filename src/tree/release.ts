/**
 * Release (invariant I6): frees the local blocks of contents whose remote copies were just proven.
 *
 * The order, and why:
 *   1. refuse what is pinned, busy or not provable; commit what is queued, so that nothing is claimed later;
 *   2. shut the gate in this process and close our own descriptors;
 *   3. take a write lease (F_SETLEASE F_WRLCK): the kernel grants it only when nobody has the file open or mapped,
 *      not even through FUSE passthrough with a closed descriptor; from now on an opener waits for us, and the front
 *      end is told of it (`beforeFreeing`);
 *   4. record durably that nothing is here (catalog, then mark);
 *   5. if an opener is waiting, or the file was cut, put the record back and let him in: the bytes are still there;
 *   6. free the blocks, drop the lease. Who opens now finds a stub.
 * A crash after 4 leaves blocks that nobody claims; they are overwritten by the next recall.
 *
 * Several contents go through this together, so that one transaction of the catalog serves them all.
 */
import { toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { leaseKind, tryLease } from '../sys/lease.ts';
import type { ResidencyRow } from './durability.ts';
import type { ChunkRun, Residency } from './residency.ts';

/** So many contents hold their leases, and keep openers waiting, for each other's sake. */
export const releaseBatchMax = 128;

export type ReleaseRefusal =
  | 'pinned'
  | 'busy'
  | 'not proven'
  | 'changed'
  | 'open'
  | 'opened meanwhile'
  | 'no leases'
  | 'failed';

export interface Refused {
  readonly released: false;
  readonly refusal: ReleaseRefusal;
  /** A sentence for people. */
  readonly message: string;
  /** The errno that says it best; retryable when it may pass by itself. */
  readonly error: EbbError | undefined;
}

export type ReleaseResult = { readonly released: true; readonly freedBytes: number } | Refused;

/** What the remote says of the object now. */
export interface RemoteProof {
  readonly version: string;
  readonly sizeBytes: number;
}

/** A content, as far as release must know it. */
export interface Releasable {
  readonly id: number;
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly pinned: boolean;
  readonly residency: Residency;
}

export interface ReleaseRequest<File extends Releasable> {
  /** Asks the remote now. Rejects when the object is gone or the remote cannot be asked. */
  readonly prove: (file: File) => Promise<RemoteProof>;
  /** True while it is open through a front end, or a recall is under way. Asked several times. */
  readonly isBusy: (id: number) => boolean;
  /** As soon as it has its lease: others of its batch are still to get theirs, and some who open it do not wait. */
  readonly onLease?: (fd: number) => void;
  /**
   * Under the lease, before the record is changed: from now on whoever comes must be noticed, also by a successor if
   * this process dies before it has freed anything. When it throws (EBUSY: somebody has opened the file after all),
   * the file stays as it is.
   */
  readonly beforeFreeing?: (fd: number, file: File) => void;
  /** Held for as long as leases are, from before the first one on. */
  readonly whileLeased?: () => Disposable;
}

/** What the keeper of the files does. */
export interface ReleasePort<File extends Releasable> {
  /** What is known to be here is durable. Rejects when the file is not known any more. */
  settled(file: File): Promise<void>;
  /** Closes our own descriptors and keeps everybody in this process away until disposed; undefined while in use. */
  begin(file: File): Disposable | undefined;
  /** The file for writing, past that gate. */
  open(file: File): OwnedFd;
  /** Asked under the lease: it may hold something that the remote does not have. */
  isChanged(file: File, fd: number): boolean;
  /** Durable when it returns. */
  commit(rows: readonly ResidencyRow[]): void;
  /**
   * Makes the mark say what the row says, so that it is on the disk no later than that the blocks are free. False when
   * it says more and cannot be changed.
   */
  mark(file: File, row: ResidencyRow, fd: number): Promise<boolean>;
  /** Frees the blocks; `residentBytes`: of what was here. Returns how many bytes. */
  free(file: File, fd: number, residentBytes: number): number;
}

interface Leased<File> {
  readonly index: number;
  readonly file: File;
  readonly fd: number;
}

interface WhatWasHere {
  readonly runs: readonly ChunkRun[];
  readonly residentBytes: number;
}

/** Results in the order of `files`. Never throws for what the outside world does: every refusal is a result. */
export async function releaseFiles<File extends Releasable>(
  port: ReleasePort<File>,
  files: readonly File[],
  request: ReleaseRequest<File>,
): Promise<ReleaseResult[]> {
  const results: ReleaseResult[] = [];
  for (let first = 0; first < files.length; first += releaseBatchMax) {
    const batch = files.slice(first, first + releaseBatchMax);
    results.push(...(await releaseBatch(port, batch, request)));
  }
  return results;
}

async function releaseBatch<File extends Releasable>(
  port: ReleasePort<File>,
  files: readonly File[],
  request: ReleaseRequest<File>,
): Promise<ReleaseResult[]> {
  const results: (ReleaseResult | undefined)[] = await Promise.all(
    files.map((file) => prepare(port, file, request).catch(failed)),
  );
  using _turn = request.whileLeased?.();
  using leases = new DisposableStack();
  const leased: Leased<File>[] = [];
  for (const [index, file] of files.entries()) {
    if (results[index] !== undefined) continue;
    try {
      const taken = takeLease(port, file, request, leases);
      if (typeof taken === 'number') leased.push({ index, file, fd: taken });
      else results[index] = taken;
    } catch (error) {
      results[index] = failed(error);
    }
  }
  await releaseLeased(port, leased, request, results);
  return results.map((result) => result ?? refused('failed', 'It was not tried.'));
}

/** Step 1: what can be refused before anybody is kept waiting. */
async function prepare<File extends Releasable>(
  port: ReleasePort<File>,
  file: File,
  request: ReleaseRequest<File>,
): Promise<Refused | undefined> {
  const early = refuseEarly(file, request) ?? (await proveRemoteCopy(file, request));
  if (early !== undefined) return early;
  await port.settled(file);
  return undefined;
}

function refuseEarly<File extends Releasable>(
  file: File,
  request: ReleaseRequest<File>,
): Refused | undefined {
  if (file.pinned) return refused('pinned', `${file.key} is pinned: unpin it first.`);
  if (request.isBusy(file.id)) return refused('busy', `${file.key} is in use.`);
  return undefined;
}

async function proveRemoteCopy<File extends Releasable>(
  file: File,
  request: ReleaseRequest<File>,
): Promise<Refused | undefined> {
  let proof: RemoteProof;
  try {
    proof = await request.prove(file);
  } catch (error) {
    const known = toEbbError(error);
    const message = `That the remote has ${file.key} could not be verified: ${known.message}`;
    return refused('not proven', message, known);
  }
  if (proof.version === file.version && proof.sizeBytes === file.sizeBytes) return undefined;
  const message = `The remote has another version of ${file.key}: this may be the last copy.`;
  return refused('not proven', message);
}

/** Steps 2 and 3. Returns the descriptor that has the lease; `leases` gives everything back. */
function takeLease<File extends Releasable>(
  port: ReleasePort<File>,
  file: File,
  request: ReleaseRequest<File>,
  leases: DisposableStack,
): number | Refused {
  const late = refuseEarly(file, request);
  if (late !== undefined) return late;
  const gate = port.begin(file);
  if (gate === undefined) return refused('busy', `${file.key} is in use.`);
  leases.use(gate);
  const { fd } = leases.use(port.open(file));
  try {
    if (!tryLease(fd, 'write')) {
      return refused('open', `${file.key} is open or mapped by somebody.`);
    }
  } catch (error) {
    const known = toEbbError(error);
    const message = `The file system cannot prove that nobody uses ${file.key}.`;
    return refused('no leases', message, known);
  }
  // Closing it gives the lease up.
  request.onLease?.(fd);
  return fd;
}

/** Steps 4 to 6. */
async function releaseLeased<File extends Releasable>(
  port: ReleasePort<File>,
  leased: readonly Leased<File>[],
  request: ReleaseRequest<File>,
  results: (ReleaseResult | undefined)[],
): Promise<void> {
  const refusalNow = ({ file, fd }: Leased<File>): Refused | undefined => {
    if (leaseKind(fd) !== 'write' || request.isBusy(file.id)) return openedMeanwhile(file);
    // Asked twice: who cuts a file without opening it need not break the lease (nfsd_setattr(), Linux 6.18).
    if (!port.isChanged(file, fd)) return undefined;
    return refused('changed', `${file.key} is not as it was recalled.`);
  };
  const going = leased.filter((one) => {
    const refusal = refusalNow(one) ?? objection(one, request);
    results[one.index] = refusal;
    return refusal === undefined;
  });
  // Not of copies of the bitmaps: shared memory costs more than the system calls.
  const before = going.map(({ file: { residency } }) => {
    const was: WhatWasHere = { runs: residency.runs(), residentBytes: residency.residentBytes };
    residency.clear();
    return was;
  });
  /** Whose bytes are all still here although the record was told otherwise. */
  const kept = new Set<Leased<File>>();
  try {
    const refusals = await recordNothingHere(port, going);
    for (const [at, one] of going.entries()) {
      const refusal = refusals[at] ?? refusalNow(one);
      if (refusal !== undefined) kept.add(one);
      results[one.index] = refusal ?? free(port, one, (before[at] as WhatWasHere).residentBytes);
    }
  } catch (error) {
    // Whether the record changed is not known; of these nothing was freed.
    for (const one of going) {
      if (results[one.index] !== undefined) continue;
      results[one.index] = failed(error);
      kept.add(one);
    }
  }
  const back = going.flatMap((one, at) =>
    kept.has(one) ? [{ one, row: putBack(one.file, before[at] as WhatWasHere) }] : [],
  );
  if (back.length > 0) await recordPutBack(port, back, results);
}

/**
 * Step 4, of files whose residency is empty by now. The refusals of those whose marks cannot be changed. Throws when
 * the catalog refuses all.
 */
async function recordNothingHere<File extends Releasable>(
  port: ReleasePort<File>,
  going: readonly Leased<File>[],
): Promise<(Refused | undefined)[]> {
  if (going.length === 0) return [];
  const rows = going.map(({ file }) => rowOf(file.id, file.residency));
  port.commit(rows);
  const refusals: (Refused | undefined)[] = [];
  for (const [at, { file, fd }] of going.entries()) {
    try {
      const isMarked = await port.mark(file, rows[at] as ResidencyRow, fd);
      const message = `The mark of ${file.key} cannot be changed.`;
      refusals.push(isMarked ? undefined : refused('failed', message));
    } catch (error) {
      refusals.push(failed(error));
    }
  }
  return refusals;
}

/** What `beforeFreeing` has against it. */
function objection<File extends Releasable>(
  { file, fd }: Leased<File>,
  request: ReleaseRequest<File>,
): Refused | undefined {
  try {
    request.beforeFreeing?.(fd, file);
    return undefined;
  } catch (error) {
    return toEbbError(error).code === 'EBUSY' ? openedMeanwhile(file) : failed(error);
  }
}

/** Step 6. When it fails half-way, the record, which claims nothing, stays true. */
function free<File extends Releasable>(
  port: ReleasePort<File>,
  { file, fd }: Leased<File>,
  residentBytes: number,
): ReleaseResult {
  try {
    return { released: true, freedBytes: port.free(file, fd, residentBytes) };
  } catch (error) {
    return failed(error);
  }
}

/** Step 5, in memory: what was resident before, is. */
function putBack({ id, residency }: Releasable, { runs }: WhatWasHere): ResidencyRow {
  for (const { first, count } of runs) residency.markResident(first, count);
  return rowOf(id, residency);
}

/** Step 5, in the record. */
async function recordPutBack<File extends Releasable>(
  port: ReleasePort<File>,
  back: readonly { readonly one: Leased<File>; readonly row: ResidencyRow }[],
  results: (ReleaseResult | undefined)[],
): Promise<void> {
  try {
    port.commit(back.map(({ row }) => row));
    for (const { one } of back) one.file.residency.noteRecorded();
    for (const { one, row } of back) await port.mark(one.file, row, one.fd);
  } catch (error) {
    for (const { one } of back) results[one.index] = failed(error);
  }
}

function rowOf(id: number, residency: Residency): ResidencyRow {
  const { residentBytes, complete } = residency;
  return { id, bitmap: residency.encode(), residentBytes, complete };
}

function openedMeanwhile(file: Releasable): Refused {
  return refused('opened meanwhile', `${file.key} was just opened.`);
}

function failed(error: unknown): Refused {
  const known = toEbbError(error);
  return refused('failed', known.message, known);
}

function refused(refusal: ReleaseRefusal, message: string, error?: EbbError): Refused {
  return { released: false, refusal, message, error };
}

/** Release (release.ts) of stubs. */
import { StubChange } from '../../base/stub-facts.ts';
import { fileStatus, sameTime, setFileTimes } from '../../sys/stat.ts';
import { readStubMark, writeStubMark } from './stub-mark.ts';
import { punchContent } from '../local-io.ts';
import { releaseFiles } from '../release.ts';
import type { ReleasePort, ReleaseRequest, ReleaseResult } from '../release.ts';
import type { ResidencyRow } from '../durability.ts';
import type { TimesInTurn } from './kept-times.ts';
import type { NativeStubStore } from './store.ts';
import type { LoadedStub } from './stub-file.ts';

/** As `StubStore.release`. */
export function releaseStubs(
  store: NativeStubStore,
  stubs: readonly LoadedStub[],
  request: ReleaseRequest<LoadedStub>,
): Promise<ReleaseResult[]> {
  const times = store.keepTimesInTurn();
  const whileLeased = (): Disposable => {
    const held = new DisposableStack();
    held.use(request.whileLeased?.());
    held.use(times);
    return held;
  };
  return releaseFiles(portOf(store, times), stubs, { ...request, whileLeased });
}

function portOf(store: NativeStubStore, times: TimesInTurn | undefined): ReleasePort<LoadedStub> {
  return {
    settled: async (stub) => {
      store.mine(stub);
      await store.log.settled(stub.id);
    },
    begin: (stub) => store.beginRelease(stub),
    open: (stub) => store.access.openForWriting(stub.handle),
    isChanged: (stub, fd) => isChanged(stub, fd),
    commit: (rows) => store.records.commitResidency(rows),
    mark: (stub, row, fd) => Promise.resolve(lowerMark(store, stub, row, fd)),
    free: (stub, fd, residentBytes) => {
      const { atime, mtime } = fileStatus(fd);
      times?.keep(stub.id, { atime, mtime });
      try {
        if (store.poison !== undefined) store.poison.cover(fd, stub.sizeBytes);
        else punchContent(fd, stub.sizeBytes);
      } finally {
        // Both, so that it is no FAN_MODIFY. Also half-way: it would look changed, and not be released again.
        if (!store.isInvisible) setFileTimes(fd, atime, mtime);
      }
      return residentBytes;
    },
  };
}

/** Somebody may have written who got past us, or is about to be let in. */
function isChanged(stub: LoadedStub, fd: number): boolean {
  if (stub.change !== StubChange.clean || stub.holds > 0) return true;
  const { sizeBytes, mtime } = fileStatus(fd);
  return sizeBytes !== stub.sizeBytes || !sameTime(mtime, stub.mtime);
}

/**
 * Marks that claim nothing stay as they are; on xfs that is nearly all. Not synced: the mark and the blocks are in one
 * journal, which keeps their order. False when the mark is gone, since nobody would recall the file any more, or knows
 * better than the catalog.
 */
function lowerMark(
  { seal }: NativeStubStore,
  stub: LoadedStub,
  row: ResidencyRow,
  fd: number,
): boolean {
  const reading = readStubMark(fd, seal, stub.handle);
  if (reading?.ok !== true) return false;
  // Its daemon was killed before the catalog had it, too: it is the user's.
  if (reading.mark.stub?.change === StubChange.dirty) return false;
  if (reading.mark.residentBytes === 0) return true;
  const { id, handle, key, version, sizeBytes, mtime, pinned } = stub;
  const { chunkBytes } = stub.residency;
  const facts = { id, handle, key, version, sizeBytes, mtime, pinned, chunkBytes };
  writeStubMark(fd, { ...facts, ...row, change: StubChange.clean }, seal);
  return true;
}

/** What the daemon knows of one file of a tree, for `ls`, `explain` and the actions. */
import { StubChange } from '../../base/stub-facts.ts';
import type { StubRecord, StubState } from '../../catalog/stub-catalog.ts';
import type { BriefFileInfo, FileInfo, FileState } from '../api.ts';
import type { BriefEntry, TreeEntry } from './tree-files.ts';

export interface TreeFactSources {
  /** Ahead of the catalog when the stub is loaded. */
  readonly residentBytes: (record: StubState) => number;
  /** True while it is being recalled. */
  readonly isRecalling: (id: number) => boolean;
}

const permissionBits = 0o7777;
const millisecondsPerSecond = 1_000;
const nanosecondsPerMillisecond = 1_000_000;

/** Content that came from the remote and is still that: the others are the user's own, as files without a record. */
export function isManaged<Facts extends Pick<StubRecord, 'change'>>(
  record: Facts | undefined,
): record is Facts {
  return (
    record !== undefined &&
    record.change !== StubChange.dirty &&
    record.change !== StubChange.discarding
  );
}

/** Bytes that are here; of what is the user's own, all of them. */
export function residentBytesOf(entry: TreeEntry, sources: TreeFactSources): number {
  if (entry.kind !== 'file') return 0;
  return isManaged(entry.record) ? sources.residentBytes(entry.record) : entry.status.sizeBytes;
}

/** `-`: what has no content. */
export function stateOf(entry: BriefEntry, sources: TreeFactSources): FileState {
  if (entry.kind !== 'file') return '-';
  const { record } = entry;
  if (record === undefined) return 'REG';
  if (!isManaged(record)) return 'DIR';
  if (sources.isRecalling(record.id)) return 'UNM';
  const residentBytes = sources.residentBytes(record);
  if (residentBytes >= record.sizeBytes) return 'DUL';
  return residentBytes > 0 ? 'PAR' : 'OFL';
}

export function briefFileInfo(entry: BriefEntry, sources: TreeFactSources): BriefFileInfo {
  return { path: entry.path, kind: shownKind(entry), state: stateOf(entry, sources) };
}

function shownKind({ kind }: BriefEntry): FileInfo['kind'] {
  return kind === 'other' ? 'file' : kind;
}

export function treeFileInfo(entry: TreeEntry, sources: TreeFactSources): FileInfo {
  const { path, kind, status, record, target } = entry;
  return {
    path,
    kind: shownKind(entry),
    state: stateOf(entry, sources),
    mode: status.mode & permissionBits,
    uid: status.uid,
    gid: status.gid,
    sizeBytes: kind === 'directory' ? 0 : status.sizeBytes,
    residentBytes: residentBytesOf(entry, sources),
    mtimeMs:
      status.mtime.seconds * millisecondsPerSecond +
      Math.floor(status.mtime.nanoseconds / nanosecondsPerMillisecond),
    pinned: record?.pinned ?? false,
    ...(target === undefined ? {} : { target }),
  };
}

/**
 * What a complete listing changes in the catalog. Pure: rows and a listing in, a `DirectoryChange` out.
 *
 * The one rule that matters: a file whose content may have changed never keeps its node (one node, one version),
 * and a file about which the listing says too little keeps its node but loses the claim to be exact, so that the
 * remote is asked before anybody sees a size or a byte.
 */
import { decodeName, encodeName } from '../../base/name.ts';
import { NodeKind } from '../../catalog/catalog.ts';
import type { DirectoryChange, NewNode, Node } from '../../catalog/catalog.ts';
import type { ListedObject, ObjectAttributes, ObjectKind } from '../../remote/remote.ts';

/** Catalog kind of a listed object; undefined for what a mount cannot show (sockets, devices). */
export function nodeKindOf(kind: ObjectKind): NodeKind | undefined {
  return kind === 'other' ? undefined : NodeKind[kind];
}

/** `Node.mtimeNanoseconds` of a file whose time nobody knows. */
export const unknownTime = -1;

/**
 * The catalog row for an object seen for the first time. `confirmed`: the remote was asked about this very object,
 * so what it left out will not be known later either.
 */
export function newNode(
  parentId: number,
  name: Uint8Array,
  kind: NodeKind,
  object: ObjectAttributes,
  nowMs: number,
  confirmed: boolean,
): NewNode {
  const mtime = object.mtime ?? object.roundedMtime;
  const isFile = kind === NodeKind.file;
  const timeSettled = confirmed || object.mtime !== undefined;
  const exact = !isFile || (object.sizeBytes !== undefined && timeSettled);
  return {
    parentId,
    name,
    kind,
    mode: object.mode ?? -1,
    uid: object.uid ?? -1,
    gid: object.gid ?? -1,
    sizeBytes: object.sizeBytes ?? (isFile ? -1 : 0),
    mtimeSeconds: mtime?.seconds ?? 0,
    mtimeNanoseconds: mtime?.nanoseconds ?? unknownTime,
    exact,
    version: isFile ? (object.version ?? null) : null,
    target: object.target === undefined ? null : encodeName(object.target),
    xattrs: object.xattrs ?? null,
    checkedAtMs: exact ? nowMs : 0,
  };
}

const transferPrefix = 'transfer:';

/** The version of content that the remote shows none for: this very transfer of it. */
export function transferVersion(unique: string): string {
  return transferPrefix + unique;
}

/**
 * Whether the version was made up by `transferVersion`. The remote cannot be asked for it again: missing bytes of
 * it are gone, and whether it is still current cannot be known.
 */
export function isTransferVersion(version: string | null): boolean {
  return version?.startsWith(transferPrefix) === true;
}

/** How long a whole fetch of a file without a version counts as current, whatever the time to live says. */
const transferRestMs = 1_000;

/**
 * What the remote shows no version for is fetched anew each time it is asked about, under a new id. Without a
 * moment's rest between the lookup that fetches and the open that follows, a ttl of 0 could never open it.
 */
export function wasJustFetched(node: Node, nowMs: number): boolean {
  const ageMs = nowMs - node.checkedAtMs;
  return isTransferVersion(node.version) && ageMs >= 0 && ageMs < transferRestMs;
}

/** What new facts about a file mean for the node that has its name. */
export type FileVerdict =
  /** Same version as far as the remote can tell: refresh the facts. */
  | 'same'
  /** Another version: the name gets a new node. */
  | 'changed'
  /** The facts do not suffice: keep the node, ask `stat` before use. */
  | 'unsure';

const secondsPerMinute = 60;

/** Compares a file's node with what a listing or a stat says now. */
export function judgeFile(node: Node, object: ObjectAttributes): FileVerdict {
  const sizeKnown = object.sizeBytes !== undefined && node.sizeBytes >= 0;
  // Before the version: one of two answers about the same version was wrong, and nobody knows which.
  if (sizeKnown && object.sizeBytes !== node.sizeBytes) return 'changed';
  if (object.version !== undefined && node.version !== null) {
    return object.version === node.version ? 'same' : 'changed';
  }
  const nodeTimeKnown = node.exact && node.mtimeNanoseconds !== unknownTime;
  if (object.mtime !== undefined && nodeTimeKnown) {
    const equal =
      object.mtime.seconds === node.mtimeSeconds &&
      object.mtime.nanoseconds === node.mtimeNanoseconds;
    if (!equal) return 'changed';
    return sizeKnown ? 'same' : 'unsure';
  }
  if (object.version !== undefined || object.mtime !== undefined) return 'same';
  if (object.roundedMtime !== undefined && node.exact) {
    // A listing in the server's local time is off by whole zones; both cases look alike, so only ask again.
    const floor = Math.floor(node.mtimeSeconds / secondsPerMinute) * secondsPerMinute;
    if (floor !== object.roundedMtime.seconds) return 'unsure';
  }
  return 'unsure';
}

/**
 * Whether a node can be corrected in place. One whose version nobody has seen has no content yet, so its facts may be;
 * but not a size or time that was shown to the kernel already (it would go on with the old size).
 */
export function staysTheSame(node: Node, object: ObjectAttributes): boolean {
  if (node.kind !== NodeKind.file || (node.version === null && !node.exact)) return true;
  const verdict = judgeFile(node, object);
  return node.version === null ? verdict !== 'changed' : verdict === 'same';
}

/** The node with every fact that `object` knows better. `confirmed` as in `newNode`. */
export function refreshed(
  node: Node,
  object: ObjectAttributes,
  nowMs: number,
  confirmed: boolean,
): Node {
  const mtime = object.mtime;
  const sizeBytes = object.sizeBytes ?? node.sizeBytes;
  const exact = node.exact || (sizeBytes >= 0 && (confirmed || mtime !== undefined));
  return {
    ...node,
    mode: object.mode ?? node.mode,
    uid: object.uid ?? node.uid,
    gid: object.gid ?? node.gid,
    sizeBytes,
    mtimeSeconds: mtime?.seconds ?? node.mtimeSeconds,
    mtimeNanoseconds: mtime?.nanoseconds ?? node.mtimeNanoseconds,
    exact,
    version: node.version ?? object.version ?? null,
    xattrs: object.xattrs ?? node.xattrs,
    checkedAtMs: nowMs,
  };
}

function sameTarget(node: Node, object: ObjectAttributes): boolean {
  return node.target !== null && decodeName(node.target) === (object.target ?? '');
}

/** True when a listing's row says nothing that the catalog does not have. */
function sameFacts(left: Node, right: Node): boolean {
  return (
    left.mode === right.mode &&
    left.uid === right.uid &&
    left.gid === right.gid &&
    left.sizeBytes === right.sizeBytes &&
    left.mtimeSeconds === right.mtimeSeconds &&
    left.mtimeNanoseconds === right.mtimeNanoseconds &&
    left.exact === right.exact &&
    left.version === right.version
  );
}

/**
 * Computes the change. `existing` are all children of the directory, `listed` the complete listing (names unique).
 * An `unsure` file is updated to "not exact" only when the listing contradicts it; otherwise it keeps its facts
 * and its `checkedAtMs`, so the time to live decides when the remote is asked.
 */
export function reconcile(
  directoryId: number,
  existing: readonly Node[],
  listed: readonly ListedObject[],
  nowMs: number,
): DirectoryChange {
  const byName = new Map(existing.map((node) => [decodeName(node.name), node]));
  const inserted: NewNode[] = [];
  const updated: Node[] = [];
  const removedIds: number[] = [];
  for (const object of listed) {
    const kind = nodeKindOf(object.kind);
    if (kind === undefined) continue;
    const node = byName.get(object.name);
    byName.delete(object.name);
    const insert = (): void => {
      inserted.push(newNode(directoryId, encodeName(object.name), kind, object, nowMs, false));
    };
    if (node === undefined) {
      insert();
      continue;
    }
    if (node.kind !== kind || (kind === NodeKind.symlink && !sameTarget(node, object))) {
      removedIds.push(node.id);
      insert();
      continue;
    }
    const verdict = kind === NodeKind.file ? judgeFile(node, object) : 'same';
    if (verdict === 'changed') {
      removedIds.push(node.id);
      insert();
    } else if (verdict === 'same') {
      updated.push(refreshed(node, object, nowMs, false));
    } else if (contradicts(node, object)) {
      updated.push({ ...node, checkedAtMs: 0 });
    }
  }
  for (const gone of byName.values()) removedIds.push(gone.id);
  return {
    directoryId,
    listedAtMs: nowMs,
    inserted,
    updated: changedOnly(existing, updated),
    removedIds,
  };
}

/** A rounded time that does not fit the exact one: the next use asks the remote. */
function contradicts(node: Node, object: ObjectAttributes): boolean {
  if (object.roundedMtime === undefined || !node.exact) return false;
  const floor = Math.floor(node.mtimeSeconds / secondsPerMinute) * secondsPerMinute;
  return floor !== object.roundedMtime.seconds;
}

/** Rows that only differ in checkedAtMs are still written for files (their freshness matters), not for directories. */
function changedOnly(existing: readonly Node[], updated: readonly Node[]): Node[] {
  const before = new Map(existing.map((node) => [node.id, node]));
  return updated.filter((node) => {
    const old = before.get(node.id);
    return old === undefined || node.kind === NodeKind.file || !sameFacts(old, node);
  });
}

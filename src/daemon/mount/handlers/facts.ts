/** What the daemon knows of one file, for `ls`, `explain` and the actions. */
import type { Catalog, Content, Node } from '../../../catalog/catalog.ts';
import { NodeKind } from '../../../catalog/catalog.ts';
import { decodeName } from '../../../base/name.ts';
import type { Recall } from '../../../recall/recall.ts';
import { stateOf } from '../../../mount/virtual-xattrs.ts';
import type { ContentFile } from '../../../tree/content.ts';
import type { FileInfo, FileState } from '../../api.ts';

export interface FactSources {
  readonly catalog: Catalog;
  readonly recall: Recall;
  /** The local file when it is loaded; its residency is ahead of the catalog's. */
  readonly loadedContent: (nodeId: number) => ContentFile | undefined;
  readonly defaults: {
    readonly fileMode: number;
    readonly directoryMode: number;
    readonly uid: number;
    readonly gid: number;
  };
}

export interface FileFacts {
  readonly state: FileState;
  readonly residentBytes: number;
  readonly content: Content | undefined;
}

const millisecondsPerSecond = 1_000;
const nanosecondsPerMillisecond = 1_000_000;

export function factsOf(node: Node, sources: FactSources): FileFacts {
  if (node.kind !== NodeKind.file) return { state: '-', residentBytes: 0, content: undefined };
  const content = sources.catalog.content(node.id);
  const loaded = sources.loadedContent(node.id);
  const residentBytes = loaded?.residency.residentBytes ?? content?.residentBytes ?? 0;
  const busy = content !== undefined && sources.recall.isBusy(node.id);
  return { state: busy ? 'UNM' : stateOf(node, residentBytes), residentBytes, content };
}

const kindNames = {
  [NodeKind.file]: 'file',
  [NodeKind.directory]: 'directory',
  [NodeKind.symlink]: 'symlink',
} as const;

export function fileInfo(path: string, node: Node, sources: FactSources): FileInfo {
  const { state, residentBytes, content } = factsOf(node, sources);
  const { defaults } = sources;
  const isDirectory = node.kind === NodeKind.directory;
  const defaultMode = isDirectory ? defaults.directoryMode : defaults.fileMode;
  return {
    path,
    kind: kindNames[node.kind],
    state,
    mode: node.kind === NodeKind.symlink ? 0o777 : node.mode >= 0 ? node.mode : defaultMode,
    uid: node.uid >= 0 ? node.uid : defaults.uid,
    gid: node.gid >= 0 ? node.gid : defaults.gid,
    sizeBytes: node.kind === NodeKind.symlink ? (node.target?.length ?? 0) : node.sizeBytes,
    residentBytes,
    mtimeMs:
      node.mtimeSeconds * millisecondsPerSecond +
      Math.floor(Math.max(0, node.mtimeNanoseconds) / nanosecondsPerMillisecond),
    pinned: content?.pinned ?? false,
    ...(isDirectory && node.listedAtMs === 0 ? { unlisted: true } : {}),
    ...(node.target === null ? {} : { target: decodeName(node.target) }),
  };
}

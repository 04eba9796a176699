/** The FUSE thread of floor.ts: passes LOOKUP, READ and READDIR on to the main thread and answers the rest itself. */
import { plainAttributes } from '../src/fuse/public.ts';
import type { FileSystem, FileSystemContext } from '../src/fuse/public.ts';

export interface FloorQuestion {
  readonly kind: 'lookup' | 'read' | 'list';
  readonly unique: number;
  readonly resent: boolean;
  readonly nodeId: number;
  /** LOOKUP */
  readonly name: string;
  /** READ, READDIR */
  readonly offset: number;
  readonly sizeBytes: number;
  /** READDIR: attributes are expected beside the names, and may be missing. */
  readonly plus: boolean;
}

export function createFileSystem(_workerData: unknown, context: FileSystemContext): FileSystem {
  const { port } = context;
  const ask = (question: FloorQuestion): void => port.postMessage(question);
  const directory = 0o040755;
  /** Whoever reads a directory asks for a page at least. */
  const leastReaddirBytes = 4096;
  return {
    lookup: (call, nodeId, name) =>
      ask({
        kind: 'lookup',
        ...call.defer(),
        nodeId,
        name: Buffer.from(name).toString('utf8'),
        offset: 0,
        sizeBytes: 0,
        plus: false,
      }),
    getattr: (call, nodeId) =>
      void call.attributes(plainAttributes({ ino: nodeId, mode: directory }), 60_000),
    open: (call) => void call.opened(1, 0),
    read: (call, nodeId, _handle, offset, sizeBytes) =>
      ask({ kind: 'read', ...call.defer(), nodeId, name: '', offset, sizeBytes, plus: false }),
    release: (call) => void call.ok(),
    opendir: (call) => void call.opened(1, 0),
    readdir: (call, nodeId, _handle, offset, plus) =>
      ask({
        kind: 'list',
        ...call.defer(),
        nodeId,
        name: '',
        offset,
        sizeBytes: leastReaddirBytes,
        plus,
      }),
    releasedir: (call) => void call.ok(),
  };
}

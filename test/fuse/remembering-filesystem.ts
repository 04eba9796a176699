/**
 * A file `f` whose content is that of another file, as a network file system shows it: the kernel keeps attributes for
 * a minute without asking, and reads bytes when somebody reads.
 */
import { fstatSync, openSync } from 'node:fs';
import { Errno, plainAttributes, rootNodeId } from '../../src/fuse/public.ts';
import type { Attributes, Call, Entry, FileSystem } from '../../src/fuse/public.ts';

const fileId = 2;
const keptMs = 60_000;
const second = 1_000_000_000n;

class RememberingFileSystem implements FileSystem {
  readonly #fd: number;

  constructor(backingPath: string) {
    this.#fd = openSync(backingPath, 'r');
  }

  lookup(call: Call, parentId: number, name: Uint8Array): void {
    if (parentId !== rootNodeId || Buffer.from(name).toString() !== 'f') call.error(Errno.ENOENT);
    else call.entry(this.#entry());
  }

  getattr(call: Call, nodeId: number): void {
    call.attributes(this.#attributes(nodeId), keptMs);
  }

  read(call: Call, _nodeId: number, _handle: number, offset: number, sizeBytes: number): void {
    call.dataFromFile(this.#fd, offset, sizeBytes);
  }

  statfs(call: Call): void {
    const size = { blockSizeBytes: 4096, fragmentSizeBytes: 4096, nameMaxBytes: 255 };
    const none = { blocks: 0, blocksFree: 0, blocksAvailable: 0, filesFree: 0 };
    call.statfs({ ...size, ...none, files: 1 });
  }

  #attributes(nodeId: number): Attributes {
    if (nodeId === rootNodeId) return plainAttributes({ ino: nodeId, mode: 0o040755 });
    const { size, mtimeNs, ctimeNs } = fstatSync(this.#fd, { bigint: true });
    return plainAttributes({
      ino: nodeId,
      mode: 0o100644,
      sizeBytes: Number(size),
      mtimeSeconds: Number(mtimeNs / second),
      mtimeNanoseconds: Number(mtimeNs % second),
      ctimeSeconds: Number(ctimeNs / second),
      ctimeNanoseconds: Number(ctimeNs % second),
    });
  }

  #entry(): Entry {
    return {
      nodeId: fileId,
      generation: 0,
      entryTimeoutMs: keptMs,
      attributeTimeoutMs: keptMs,
      attributes: this.#attributes(fileId),
    };
  }
}

export function createFileSystem(workerData: unknown): FileSystem {
  return new RememberingFileSystem((workerData as { backingPath: string }).backingPath);
}

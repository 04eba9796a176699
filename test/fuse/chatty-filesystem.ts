/** A file system that says something before it serves anything: what a busy mount that is taken over does. */
import type { FileSystem } from '../../src/fuse/filesystem.ts';
import type { FileSystemContext } from '../../src/fuse/thread-main.ts';

export function createFileSystem(_workerData: unknown, context: FileSystemContext): FileSystem {
  context.port.postMessage('early');
  return {};
}

/**
 * Which directory a tree's remote is (`RemoteRoot.name` of src/remote/dir/root.ts), kept in the state directory: the
 * empty mount point of a disk that is not mounted would look as if every file had been deleted at the remote.
 */
import { closeSync, existsSync, fsyncSync, openSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { replacePrivate } from '../tree/private-file.ts';

const fileName = 'remote-root';

/** Undefined: it was never opened, or is no directory. */
export function readRemoteRoot(stateDirectory: string): string | undefined {
  const file = path.join(stateDirectory, fileName);
  if (!existsSync(file)) return undefined;
  const root = readFileSync(file, 'utf8').trim();
  return root === '' ? undefined : root;
}

/** Durable when it returns. Throws what the file system says. */
export function keepRemoteRoot(stateDirectory: string, root: string): void {
  if (readRemoteRoot(stateDirectory) === root) return;
  replacePrivate(path.join(stateDirectory, fileName), `${root}\n`);
  const directory = openSync(stateDirectory, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

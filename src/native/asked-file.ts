/** The stub that a question is about. */
import { ebbError } from '../base/errors.ts';
import type { StubFile, StubStore } from '../tree/stubs/stub-store.ts';
import type { KnownFiles } from './known-files.ts';
import type { Question } from './messages.ts';

/** Undefined: an ordinary file. Throws EIO for a stub that nothing is known about. */
export function fileOf(
  { descriptor, handle, isMarked }: Question,
  store: StubStore,
  known: KnownFiles,
): StubFile | undefined {
  const file = known.byHandle(handle, isMarked);
  if (file !== undefined) return file;
  if (store.isMarked(descriptor)) {
    throw ebbError('EIO', 'A stub has no record in the catalog: the tree has to be rebuilt.');
  }
  if (store.isStubInSnapshot(descriptor)) {
    throw ebbError('EIO', 'A stub in a snapshot cannot be recalled.');
  }
  // A mark that was copied with the file (cp -a, rsync -X, a snapshot) means nothing.
  return undefined;
}

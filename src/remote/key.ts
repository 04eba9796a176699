/**
 * Keys of remote objects: relative paths of names joined with `/`; the root is `''`. See remote.ts.
 */
import { ebbError } from '../base/errors.ts';
import { isValidName } from '../base/name.ts';

/**
 * PATH_MAX is 4096 bytes; keys are walked name by name, so a longer one is possible, but not
 * without end.
 */
const keyNamesMax = 4096;

/** The names of a key, outermost first; none for the root. Throws EINVAL when it is no key. */
export function splitKey(key: string): string[] {
  if (key === '') return [];
  const names = key.split('/');
  if (names.length > keyNamesMax || !names.every(isValidName)) {
    throw ebbError(
      'EINVAL',
      `${JSON.stringify(key.slice(0, 200))} is not a key of a remote object.`,
    );
  }
  return names;
}

/** The key of `name` in the directory `directoryKey`. */
export function joinKey(directoryKey: string, name: string): string {
  return directoryKey === '' ? name : `${directoryKey}/${name}`;
}

/** The key of the directory that holds `key`; `undefined` for the root. */
export function parentKey(key: string): string | undefined {
  if (key === '') return undefined;
  return key.slice(0, Math.max(0, key.lastIndexOf('/')));
}

/** The last name of a key; `''` for the root. */
export function baseName(key: string): string {
  return key.slice(key.lastIndexOf('/') + 1);
}

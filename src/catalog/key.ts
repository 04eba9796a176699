/** Remote keys of nodes: the names from the root joined by `/`, in the lossless form of base/name.ts. */
import { decodeName, encodeName } from '../base/name.ts';

/** The key of the object at these names; the root's is `''`. */
export function keyOf(names: readonly Uint8Array[]): string {
  return names.map((name) => decodeName(name)).join('/');
}

/** The last name of a key. */
export function lastNameOf(key: string): Uint8Array {
  return encodeName(key.slice(key.lastIndexOf('/') + 1));
}

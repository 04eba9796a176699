/**
 * Versions that do not last: of a file whose next content could not be told from this one yet. Once it can, the remote
 * names the content otherwise (`ObjectAttributes.youngVersion`), also when nothing has changed.
 */

const prefix = 'young;';

/** A name for what is called `version` when it is older. No remote's lasting versions begin so. */
export function youngVersionOf(version: string): string {
  return prefix + version;
}

export function isYoung(version: string): boolean {
  return version.startsWith(prefix);
}

/** Whether this user owns a file or directory, and no permission bit lets anybody else at it. Root may all the same. */
export function isOursAlone({
  uid,
  mode,
}: {
  readonly uid: number;
  readonly mode: number;
}): boolean {
  return uid === (process.geteuid?.() ?? uid) && (mode & 0o077) === 0;
}

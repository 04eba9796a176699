/** What a remote's name is: a URL of a web server, or a path. Pure. */

/** True for http:// and https:// in any case; says nothing about the rest. */
export function isHttpUrl(remote: string): boolean {
  return /^https?:\/\//i.test(remote);
}

/** `remote`: a URL, or an absolute path, which stays as it is. Throws TypeError for a URL that cannot be parsed. */
export function withoutCredentials(remote: string): string {
  if (remote.startsWith('/')) return remote;
  const url = new URL(remote);
  url.username = '';
  url.password = '';
  return url.href;
}

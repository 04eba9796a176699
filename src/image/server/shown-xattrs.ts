/** Which extended attributes of an image are shown. */

const shown = /^(user\.|system\.posix_acl_(access|default)$)/;

/** What trusted.* and security.* say is the business of the system that wrote them. */
export function isShownXattr(name: Uint8Array): boolean {
  return shown.test(Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1'));
}

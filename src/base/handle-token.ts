/**
 * The outside of a handle token: `ebb1.TAG.BODY`. TAG (16 hexadecimal digits) says whose it is, so that a program finds
 * the mount or tree to ask; BODY is for its daemon alone (daemon/handles/token.ts).
 */
const prefix = 'ebb1';
const tagDigits = 16;
/** 45 bytes in base64url: no padding, and no bits left over that could be changed unseen. */
const bodyCharacters = 60;
const pattern = new RegExp(`^${prefix}\\.([0-9a-f]{${tagDigits}})\\.([\\w-]{${bodyCharacters}})$`);

export interface TokenText {
  readonly tag: string;
  readonly body: string;
}

/** Undefined for what is no token of this format. */
export function parseToken(text: string): TokenText | undefined {
  const match = pattern.exec(text);
  return match === null ? undefined : { tag: match[1] ?? '', body: match[2] ?? '' };
}

export function formatToken({ tag, body }: TokenText): string {
  return `${prefix}.${tag}.${body}`;
}

/**
 * Names in case-insensitive directories: canonical decomposition and full case folding, without
 * ignorable code points (the kernel's utf8 tables, Unicode 12.1).
 */

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();
const ignorable = /\p{Default_Ignorable_Code_Point}/gu;

/** The form under which a name is compared and hashed; the name itself when it is not UTF-8. */
export function foldName(name: Uint8Array): Uint8Array {
  if (isAscii(name)) return name.map((byte) => (byte >= 0x41 && byte <= 0x5a ? byte + 32 : byte));
  let text: string;
  try {
    text = decoder.decode(name);
  } catch {
    return name;
  }
  const folded = Array.from(text.normalize('NFD').replace(ignorable, ''), foldCharacter).join('');
  return encoder.encode(folded.normalize('NFD'));
}

/** Whether all bytes are ASCII: then the index can be trusted for every version of Unicode. */
export function isAscii(name: Uint8Array): boolean {
  return name.every((byte) => byte < 0x80);
}

/**
 * Upper case first: it expands what folds to several characters. One character at a time, so that no
 * rule that looks at its neighbours (final sigma) is applied.
 */
function foldCharacter(character: string): string {
  return Array.from(character.toUpperCase(), (upper) => upper.toLowerCase()).join('');
}

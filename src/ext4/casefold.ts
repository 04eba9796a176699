/**
 * Names in case-insensitive directories: canonical decomposition and full case folding, without
 * ignorable code points, as the kernel's tables of Unicode 12.1 do.
 *
 * Limit: the tables here are those of this JavaScript engine. A character that came after 12.1 folds
 * here, while the kernel takes a name that has one for mere bytes; so a name that is there is always
 * looked for as it is written first (directory.ts).
 */

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();
/** Folds to itself, although its capital is I. */
const dotlessI = '\u0131';
/** Cherokee folds to capitals, because those came first. */
const cherokeeCapital = /^[\u13a0-\u13f5]$/u;
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
 * Lower, upper, lower: that way a character that folds to several ends as those. One character at a
 * time, so that no rule that looks at its neighbours (final sigma) is applied.
 */
function foldCharacter(character: string): string {
  if (character === dotlessI || cherokeeCapital.test(character)) return character;
  const upper = character.toLowerCase().toUpperCase();
  if (cherokeeCapital.test(upper)) return upper;
  return Array.from(upper, (each) => each.toLowerCase()).join('');
}

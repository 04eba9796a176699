/** Shell patterns for file names (glob(7)): `*`, `?`, `[...]`, `[!...]`, and `\` to quote. Pure. */

/** Whether a word has any character that means something in a pattern. */
export function hasMagic(word: string): boolean {
  return /[*?[]/.test(word);
}

/** A star, or a test of one character. */
type Piece = '*' | ((character: string) => boolean);

/**
 * Matches one whole name (no `/` is special), in time proportional to pattern times name at worst. A broken `[`
 * stands for itself.
 */
export function globMatcher(pattern: string, ignoreCase = false): (name: string) => boolean {
  const characters = (text: string): string[] => Array.from(ignoreCase ? text.toLowerCase() : text);
  const pieces = parse(characters(pattern));
  return (name) => matches(pieces, characters(name));
}

/** Only the last star needs to be tried again: what an earlier one took can be given to the later one. */
function matches(pieces: readonly Piece[], name: readonly string[]): boolean {
  let [piece, at] = [0, 0];
  let [starPiece, starAt] = [-1, 0];
  while (at < name.length) {
    const current = pieces[piece];
    if (current === '*') {
      [starPiece, starAt] = [piece, at];
      piece += 1;
    } else if (current !== undefined && current(name[at] ?? '')) {
      piece += 1;
      at += 1;
    } else if (starPiece >= 0) {
      starAt += 1;
      [piece, at] = [starPiece + 1, starAt];
    } else {
      return false;
    }
  }
  while (pieces[piece] === '*') piece += 1;
  return piece === pieces.length;
}

function parse(characters: readonly string[]): Piece[] {
  const pieces: Piece[] = [];
  for (let index = 0; index < characters.length; index += 1) {
    const character = characters[index] ?? '';
    const set = character === '[' ? readSet(characters, index) : undefined;
    if (character === '*') {
      pieces.push('*');
    } else if (character === '?') {
      pieces.push(() => true);
    } else if (character === '\\' && index + 1 < characters.length) {
      index += 1;
      pieces.push(literal(characters[index] ?? ''));
    } else if (set === undefined) {
      pieces.push(literal(character));
    } else {
      pieces.push(set.test);
      index = set.end;
    }
  }
  return pieces;
}

function literal(wanted: string): (character: string) => boolean {
  return (character) => character === wanted;
}

/** The set that begins at `[`; undefined without a closing bracket. */
function readSet(
  characters: readonly string[],
  start: number,
): { test: (character: string) => boolean; end: number } | undefined {
  const negated = characters[start + 1] === '!' || characters[start + 1] === '^';
  const first = start + (negated ? 2 : 1);
  const end = characters.indexOf(']', first + 1); // a `]` in first place is a member
  if (end < 0) return undefined;
  const ranges: (readonly [low: number, high: number])[] = [];
  for (let index = first; index < end; index += 1) {
    const low = codeOf(characters[index]);
    const isRange = characters[index + 1] === '-' && index + 2 < end;
    ranges.push([low, isRange ? codeOf(characters[index + 2]) : low]);
    if (isRange) index += 2;
  }
  const test = (character: string): boolean => {
    const code = codeOf(character);
    return ranges.some(([low, high]) => low <= code && code <= high) !== negated;
  };
  return { test, end };
}

function codeOf(character: string | undefined): number {
  return character?.codePointAt(0) ?? 0;
}

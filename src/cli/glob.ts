/** Shell patterns for file names (glob(7)): `*`, `?`, `[...]`, `[!...]`, and `\` to quote. Pure. */

/** Whether a word has any character that means something in a pattern. */
export function hasMagic(word: string): boolean {
  return /[*?[]/.test(word);
}

/** Matches one whole name (no `/` is special). A broken `[` stands for itself. */
export function globMatcher(pattern: string, ignoreCase = false): (name: string) => boolean {
  const expression = new RegExp(`^${translate(pattern)}$`, ignoreCase ? 'isu' : 'su');
  return (name) => expression.test(name);
}

function translate(pattern: string): string {
  let text = '';
  const characters = [...pattern];
  for (let index = 0; index < characters.length; index += 1) {
    const character = characters[index] ?? '';
    if (character === '*') {
      if (!text.endsWith('.*')) text += '.*';
    } else if (character === '?') {
      text += '.';
    } else if (character === '\\' && index + 1 < characters.length) {
      index += 1;
      text += escape(characters[index] ?? '');
    } else if (character === '[') {
      const set = readSet(characters, index);
      text += set?.text ?? '\\[';
      index = set?.end ?? index;
    } else {
      text += escape(character);
    }
  }
  return text;
}

function readSet(characters: string[], start: number): { text: string; end: number } | undefined {
  const negated = characters[start + 1] === '!' || characters[start + 1] === '^';
  const first = start + (negated ? 2 : 1);
  const end = characters.indexOf(']', first + 1); // a `]` in first place is a member
  if (end < 0) return undefined;
  const members = characters.slice(first, end);
  let text = '';
  for (let index = 0; index < members.length; index += 1) {
    const low = members[index] ?? '';
    const high = members[index + 1] === '-' ? members[index + 2] : undefined;
    if (high === undefined) {
      text += escape(low);
      continue;
    }
    if (low <= high) text += `${escape(low)}-${escape(high)}`;
    index += 2;
  }
  if (text === '') return { text: negated ? '.' : '(?!)', end };
  return { text: `[${negated ? '^' : ''}${text}]`, end };
}

/** Every character by its number: nothing in it can mean anything to the expression. */
function escape(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}

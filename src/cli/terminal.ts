/**
 * What the CLI writes and where. Names come from remotes and may hold anything: whatever a person reads goes
 * through `visible`, which shows control characters instead of sending them to the terminal.
 */
import { encodeName } from '../base/name.ts';

export interface Terminal {
  /** Standard output is a terminal. */
  readonly isTerminal: boolean;
  /** Standard error is a terminal (progress is drawn there). */
  readonly drawsProgress: boolean;
  readonly columns: number;
  /** One line to standard output; bytes of names that are not UTF-8 come out as they were. */
  print(line: string): void;
  /** Raw text to standard output (`-0`, screen control). */
  write(text: string): void;
  /** Bytes to standard output, as they are. Resolves when it takes more. */
  writeBytes(bytes: Uint8Array): Promise<void>;
  /** One line to standard error. */
  warn(line: string): void;
  /** Raw text to standard error (progress). */
  draw(text: string): void;
  /** Resolves when what was written has left this process; rejects never. */
  flush(): Promise<void>;
  /** Resolves when standard output takes more (a slow reader such as a pager). */
  drained(): Promise<void>;
}

const columnsDefault = 80;
const gatherMaxLength = 64 * 1024;

/** What a shell says of a program that SIGPIPE has ended. */
const brokenPipeExitCode = 141;

/**
 * The terminal of this process. Writing to a closed pipe ends the process quietly, and as it ends others: who looks at
 * the exit code sees that what the command was doing may not be done.
 */
export function processTerminal(): Terminal {
  const { stdout, stderr } = process;
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(brokenPipeExitCode);
    stderr.write(`ebb: the output cannot be written: ${error.message}\n`, () => process.exit(1));
  });
  stderr.on('error', () => {});
  let gathered = '';
  const push = (): void => {
    if (gathered === '') return;
    stdout.write(encodeName(gathered));
    gathered = '';
  };
  const write = (text: string): void => {
    if (gathered === '') setImmediate(push);
    gathered += text;
    if (gathered.length >= gatherMaxLength) push();
  };
  const drained = async (): Promise<void> => {
    // What is gathered leaves when it is enough, or when there is nothing else to do: not line by line.
    if (!stdout.writableNeedDrain) return;
    await new Promise<void>((resolve) => void stdout.once('drain', () => resolve()));
  };
  return {
    isTerminal: stdout.isTTY,
    drawsProgress: stderr.isTTY,
    columns: stdout.columns > 0 ? stdout.columns : columnsDefault,
    print: (line) => write(`${line}\n`),
    write,
    warn: (line) => void stderr.write(`${line}\n`),
    draw: (text) => void stderr.write(text),
    drained,
    writeBytes: async (bytes) => {
      push();
      stdout.write(bytes);
      await drained();
    },
    flush: async () => {
      push();
      await new Promise<void>((resolve) => void stdout.write('', () => resolve()));
      await new Promise<void>((resolve) => void stderr.write('', () => resolve()));
    },
  };
}

const shortEscapes: Readonly<Record<string, string>> = {
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\\': '\\\\',
  '\u001b': '\\e',
};

/**
 * C0 and C1 controls, DEL, the backslash; line separators, direction overrides and other invisible formats that
 * can make one name look like another; lone surrogates (bytes that are not UTF-8).
 */
const unsafe =
  // oxlint-disable-next-line no-control-regex
  /[\u0000-\u001f\u007f-\u009f\\\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Surrogate}/gu;

/** A name or message for people: nothing in it can move the cursor or hide. Backslashes are doubled. */
export function visible(text: string): string {
  return text.replace(unsafe, (character) => {
    const short = shortEscapes[character];
    if (short !== undefined) return short;
    const code = character.codePointAt(0) ?? 0;
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
    if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`;
    return `\\u{${code.toString(16)}}`;
  });
}

/** A sentence from elsewhere (an error message), on one line and harmless; backslashes stay single. */
export function visibleSentence(text: string): string {
  return visible(text).replaceAll('\\\\', '\\').replaceAll('\\n', ' ');
}

/** A word that the shell takes as it is. */
export function shellWord(text: string): string {
  return /^[\w./:@%+,-]+$/.test(text)
    ? text
    : `'${visible(text).replaceAll("'", String.raw`'\''`)}'`;
}

/** `ebb image info|check|ls|cat|cp`: asks the reader and shows what it says. */
import { isHttpUrl } from '../../base/http-url.ts';
import type {
  ImageEntry,
  ImageHelperRequest,
  ImageLine,
  ImageRequest,
} from '../../daemon/helper-api.ts';
import { ProgressLine } from '../progress-line.ts';
import { RateMeter } from '../progress.ts';
import { buildRemoteAccess } from '../remote-options.ts';
import { absolutePath } from '../target.ts';
import { visible, visibleSentence } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { formatBytes, formatRate, plural } from '../units.ts';
import { ExitCode, UsageError } from '../verb.ts';
import { refuseCopyOptions } from './mount.ts';
import type { ImageRemoteOptions } from './mount.ts';
import { parsePlaceOptions } from './options.ts';
import { readImage } from './read.ts';
import { doneLine, entryLines, infoLines } from './show.ts';

export interface ImageReadOptions extends ImageRemoteOptions {
  readonly option?: readonly string[];
  readonly json?: boolean;
  readonly long?: boolean;
  readonly recursive?: boolean;
  readonly humanReadable?: boolean;
  readonly force?: boolean;
}

export const readActions = ['info', 'check', 'ls', 'cat', 'cp'] as const;
export type ReadAction = (typeof readActions)[number];

/** Columns are aligned over this many lines at a time, so that endless listings begin at once. */
const alignedRowsMax = 1000;

/** Does the action. Throws UsageError and EbbError; failures of single files are said and counted. */
export async function readAction(
  action: ReadAction,
  image: string,
  words: readonly string[],
  options: ImageReadOptions,
  terminal: Terminal,
): Promise<ExitCode> {
  const helperRequest: ImageHelperRequest = {
    source: isHttpUrl(image) ? image : absolutePath(image),
    access: buildRemoteAccess(options),
    request: requestOf(action, words, options),
  };
  const view = new View(action, image, options, terminal);
  for await (const line of readImage(helperRequest)) {
    view.show(line);
    await terminal.drained();
  }
  return view.end();
}

function requestOf(
  action: ReadAction,
  words: readonly string[],
  options: ImageReadOptions,
): ImageRequest {
  refuseCopyOptions(options, 'mount');
  const place = parsePlaceOptions(options.option ?? []);
  const misplaced = [
    ['-R', options.recursive, 'ls'],
    ['-l', options.long, 'ls'],
    ['--force', options.force, 'cp'],
  ] as const;
  for (const [name, given, owner] of misplaced) {
    if (given === true && action !== owner) throw new UsageError(`${name} is for ${owner}`);
  }
  switch (action) {
    case 'info':
    case 'check':
      if (words.length > 0) throw new UsageError(`${action} takes no PATH`);
      return { action, ...place, paths: [] };
    case 'ls':
      return {
        action,
        ...place,
        paths: words.length === 0 ? ['/'] : words,
        recursive: options.recursive === true,
      };
    case 'cat':
      if (words.length === 0) throw new UsageError('cat wants the PATH of a file in the image');
      if (options.json === true) throw new UsageError('cat has no --json');
      return { action, ...place, paths: words };
    case 'cp': {
      const destination = words.at(-1);
      if (destination === undefined || words.length < 2) {
        throw new UsageError('cp wants PATH... in the image, and where to copy them to');
      }
      const force = options.force === true;
      return {
        action,
        ...place,
        paths: words.slice(0, -1),
        destination: absolutePath(destination),
        force,
      };
    }
  }
}

class View {
  readonly #action: ReadAction;
  readonly #image: string;
  readonly #options: ImageReadOptions;
  readonly #terminal: Terminal;
  readonly #meter = new RateMeter();
  readonly #line: ProgressLine;
  #entries: ImageEntry[] = [];
  #complaints = 0;
  #exitCode: ExitCode = ExitCode.failed;

  constructor(action: ReadAction, image: string, options: ImageReadOptions, terminal: Terminal) {
    this.#action = action;
    this.#image = image;
    this.#options = options;
    this.#terminal = terminal;
    this.#line = new ProgressLine(terminal);
  }

  show(line: ImageLine): void {
    const terminal = this.#terminal;
    if (this.#options.json === true && !('progress' in line)) {
      terminal.print(JSON.stringify(line));
      if ('done' in line) this.#exitCode = line.done.exitCode;
      return;
    }
    if ('info' in line) {
      infoLines(this.#image, line.info).forEach((text) => terminal.print(text));
      const { problem } = line.info;
      if (problem !== null) terminal.warn(`ebb image ${this.#action}: ${visibleSentence(problem)}`);
    } else if ('entry' in line) {
      this.#entry(line.entry);
    } else if ('error' in line) {
      this.#complain(line.error.path, line.error.message);
    } else if ('progress' in line) {
      this.#progress(line.progress);
    } else {
      this.#exitCode = line.done.exitCode;
      this.#flush();
      this.#line.erase();
      if (this.#action === 'check' || this.#action === 'cp') {
        terminal.print(doneLine(this.#action, line.done, this.#complaints));
      }
    }
  }

  end(): ExitCode {
    this.#flush();
    this.#line.erase();
    return this.#exitCode;
  }

  #entry(entry: ImageEntry): void {
    if (this.#options.long !== true) {
      this.#terminal.print(this.#terminal.isTerminal ? visible(entry.path) : entry.path);
      return;
    }
    this.#entries.push(entry);
    if (this.#entries.length >= alignedRowsMax) this.#flush();
  }

  #flush(): void {
    const human = this.#options.humanReadable === true;
    entryLines(this.#entries, human).forEach((text) => this.#terminal.print(text));
    this.#entries = [];
  }

  #complain(path: string, message: string): void {
    this.#flush();
    this.#line.erase();
    this.#complaints += 1;
    const where = path === '' ? '' : `${visible(path)}: `;
    this.#terminal.warn(`ebb image ${this.#action}: ${where}${visibleSentence(message)}`);
  }

  #progress({ path, files, bytes }: { path: string; files: number; bytes: number }): void {
    if (!this.#line.isSeen) return;
    this.#meter.add(bytes, performance.now());
    const rate = this.#meter.bytesPerSecond();
    const facts = `${plural(files, 'file')}  ${formatBytes(bytes)}`;
    const line = `${facts}${rate === undefined ? '' : `  ${formatRate(rate)}`}  ${visible(path)}`;
    this.#line.draw((columns) => line.slice(0, columns));
  }
}

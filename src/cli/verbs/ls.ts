/** `ebb ls`: names with their state. */
import type { FileInfo } from '../../daemon/api.ts';
import type { LsMode } from '../client.ts';
import { eachTarget } from '../each-target.ts';
import { fileCells, fileColumns } from '../file-line.ts';
import { alignRows } from '../table.ts';
import { absoluteInMount, shownPath } from '../target.ts';
import type { Target } from '../target.ts';
import { visible } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { deepHelp, Unlisted } from '../unlisted.ts';
import { UsageError } from '../verb.ts';
import type { Verb } from '../verb.ts';

interface LsOptions {
  readonly recursive?: boolean;
  readonly directory?: boolean;
  readonly deep?: boolean;
  readonly humanReadable?: boolean;
  readonly json?: boolean;
}

/** Columns are aligned over this many lines at a time, so that endless listings begin at once. */
const alignedRowsMax = 1000;
/** A directory's entries are sorted here up to this number; above it they come in the daemon's order. */
const sortedRowsMax = 200_000;

export const ls: Verb = {
  name: 'ls',
  summary: 'list files with their state: remote only, partly here, here',
  synopsis: ['[-R [--deep] | -d] [-h] [--json] [PATH...]'],
  description: [
    'Lists like ls -l, with two columns more: the state first, and the bytes that are here after the size. ' +
      'Sizes are in bytes unless -h is given. Nothing is recalled. Without PATH the working directory is ' +
      'listed, or the only mount there is. A directory that was never listed, or not within the time to live, is ' +
      'listed now; sizes that its listing does not tell exactly are asked for.',
    'States: OFL only the remote has it; PAR partly here; DUL here and on the remote, equal; UNM being recalled; ' +
      'ERR see ebb explain; REG only here; DIR here and changed; MIG being archived; - no content. ' +
      'A + after the state means pinned.',
    'Names are sorted; control characters in them are shown escaped. With -R the names are paths below PATH, and ' +
      'what is known is shown without asking the remote: nothing of directories that were never listed, and ? for ' +
      'sizes that are not known. With --deep, directories are listed first where that is due.',
  ],
  examples: [
    { command: 'ebb ls -h /mnt/pub', explanation: 'One directory, readable sizes.' },
    { command: 'ebb ls -d /mnt/pub/*.iso', explanation: 'The files themselves, as named.' },
    {
      command: 'ebb ls -R --json /mnt/pub | jq -r \'select(.state=="PAR").path\'',
      explanation: 'All files that are partly here.',
    },
  ],
  define: (command) => {
    command
      .argument('[PATH...]')
      .option('-R, --recursive', 'Lists everything below PATH that is known.')
      .option('--deep', deepHelp)
      .option('-d, --directory', 'Lists directories themselves, not what is in them.')
      .option('-h, --human-readable', 'Prints sizes such as 12K, 3.4G (powers of 1024).')
      .option('--json', 'Prints one JSON object a line: FileInfo with an absolute path.');
  },
  run: async (command, terminal) => {
    const options = command.opts<LsOptions>();
    if (options.deep === true && options.recursive !== true) {
      throw new UsageError('--deep goes with -R');
    }
    let printed = false;
    return await eachTarget('ls', command.args, terminal, async (target) => {
      if (command.args.length > 1 && options.json !== true && options.directory !== true) {
        if (printed) terminal.print('');
        terminal.print(`${visible(target.typed)}:`);
      }
      await list(target, options, terminal);
      printed = true;
    });
  },
};

async function list(target: Target, options: LsOptions, terminal: Terminal): Promise<void> {
  const printer = new Printer(target, options, terminal);
  const unlisted = new Unlisted('ls', terminal);
  const mode = lsMode(options);
  const entries = target.client.ls(target.inside, mode);
  const sorted: FileInfo[] = [];
  for await (const info of entries) {
    if (mode === 'recursive') unlisted.see(info);
    if (mode !== 'entries' || options.json === true || sorted.length >= sortedRowsMax) {
      await printer.add(info);
    } else {
      sorted.push(info);
    }
  }
  sorted.sort((a, b) => (a.path < b.path ? -1 : 1));
  for (const info of sorted) await printer.add(info);
  await printer.end();
  unlisted.tell();
}

function lsMode(options: LsOptions): LsMode {
  if (options.directory === true) return 'self';
  if (options.deep === true) return 'deep';
  return options.recursive === true ? 'recursive' : 'entries';
}

class Printer {
  readonly #target: Target;
  readonly #options: LsOptions;
  readonly #terminal: Terminal;
  #rows: string[][] = [];

  constructor(target: Target, options: LsOptions, terminal: Terminal) {
    this.#target = target;
    this.#options = options;
    this.#terminal = terminal;
  }

  async add(info: FileInfo): Promise<void> {
    if (this.#options.json === true) {
      const { mountPoint } = this.#target.client.record;
      const path = absoluteInMount(mountPoint, info.path);
      this.#terminal.print(JSON.stringify({ ...info, path }));
    } else {
      const human = this.#options.humanReadable === true;
      this.#rows.push(fileCells(info, this.#nameOf(info), human));
      if (this.#rows.length >= alignedRowsMax) this.#printRows();
    }
    await this.#terminal.drained();
  }

  async end(): Promise<void> {
    this.#printRows();
    await this.#terminal.drained();
  }

  #printRows(): void {
    for (const line of alignRows(this.#rows, fileColumns)) this.#terminal.print(line);
    this.#rows = [];
  }

  #nameOf(info: FileInfo): string {
    const { inside } = this.#target;
    if (this.#options.directory === true || info.path === inside) {
      return shownPath(this.#target, info.path);
    }
    return inside === '' ? info.path : info.path.slice(inside.length + 1);
  }
}

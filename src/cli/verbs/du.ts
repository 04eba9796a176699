/** `ebb du`: how much is there and how much of it is here. */
import { DirectorySums } from '../directory-sums.ts';
import type { DirectorySum } from '../directory-sums.ts';
import { eachTarget } from '../each-target.ts';
import { absoluteInMount, shownPath } from '../target.ts';
import type { Target } from '../target.ts';
import { visible } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { formatBytesShort } from '../units.ts';
import { deepHelp } from '../unlisted.ts';
import type { Verb } from '../verb.ts';

interface DuOptions {
  readonly summarize?: boolean;
  readonly deep?: boolean;
  readonly humanReadable?: boolean;
  readonly json?: boolean;
}

export const du: Verb = {
  name: 'du',
  summary: 'remote and local sizes of directories',
  synopsis: ['[-s] [-h] [--deep] [--json] [PATH...]'],
  description: [
    'Prints, for each directory below PATH and for PATH itself, the bytes of all files below it as the remote has ' +
      'them, the bytes of them that are here, and the path. Only the catalog is read and nothing is asked for. A + ' +
      'after the remote size means at least: a directory was never listed (--deep lists them first), or the size of ' +
      'a file is not known before it is used.',
    'Without PATH the working directory is meant, or the only mount there is.',
  ],
  examples: [
    { command: 'ebb du -sh /mnt/pub', explanation: 'One line: remote size, local size.' },
    {
      command: 'ebb du /mnt/pub | sort -n -k 2 | tail',
      explanation: 'What takes most local space.',
    },
  ],
  define: (command) => {
    command
      .argument('[PATH...]')
      .option('-s, --summarize', 'Prints only the line of each PATH.')
      .option('--deep', deepHelp)
      .option('-h, --human-readable', 'Prints sizes such as 12K, 3.4G (powers of 1024).')
      .option('--json', 'Prints one JSON object a line: DiskUsage with an absolute path.');
  },
  run: async (command, terminal) => {
    const options = command.opts<DuOptions>();
    const isRead = terminal.isTerminal && options.json !== true;
    if (isRead) terminal.print(line('REMOTE', 'LOCAL', 'PATH'));
    let incomplete = false;
    const code = await eachTarget('du', command.args, terminal, async (target) => {
      if (await measure(target, options, terminal)) incomplete = true;
    });
    if (isRead && incomplete) {
      const deep = options.deep === true ? '' : '; --deep lists all directories first';
      terminal.warn(`ebb du: + means at least, not all is known${deep}`);
    }
    return code;
  },
};

/** Whether anything is not known of it. */
async function measure(target: Target, options: DuOptions, terminal: Terminal): Promise<boolean> {
  let incomplete = false;
  const show = (sum: DirectorySum): void => {
    incomplete ||= sum.incomplete;
    const path = absoluteInMount(target.client.record.mountPoint, sum.path);
    if (options.json === true) {
      terminal.print(JSON.stringify({ ...sum, path }));
      return;
    }
    const size = (bytes: number): string =>
      options.humanReadable === true ? formatBytesShort(bytes) : String(bytes);
    terminal.print(
      line(
        size(sum.remoteBytes),
        size(sum.residentBytes),
        visible(shownPath(target, sum.path)),
        sum.incomplete,
      ),
    );
  };
  if (options.summarize === true) {
    show({
      ...(await target.client.du(target.inside, options.deep === true)),
      path: target.inside,
    });
    return incomplete;
  }
  const sums = new DirectorySums(target.inside);
  const mode = options.deep === true ? 'deep' : 'recursive';
  let isEmpty = true;
  for await (const info of target.client.ls(target.inside, mode)) {
    isEmpty = false;
    for (const sum of sums.add(info)) show(sum);
    await terminal.drained();
  }
  // Of what is empty only this tells whether anybody has listed it.
  const isUnlisted = isEmpty && (await target.client.du(target.inside, false)).incomplete;
  for (const sum of sums.end()) show(isUnlisted ? { ...sum, incomplete: true } : sum);
  return incomplete;
}

const sizeColumns = 11;

/** A + stands behind the column: sizes stay below one another. */
function line(remote: string, local: string, path: string, isAtLeast = false): string {
  const mark = isAtLeast ? '+' : ' ';
  return `${remote.padStart(sizeColumns)}${mark} ${local.padStart(sizeColumns)}  ${path}`;
}

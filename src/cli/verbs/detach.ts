/** `ebb detach`: ends serving a tree; with --recall makes an ordinary directory of it. */
import { systemClock } from '../../base/clock.ts';
import { ebbError } from '../../base/errors.ts';
import type { DetachResult, Progress } from '../../daemon/api.ts';
import { ProgressLine, drawIntervalMs } from '../progress-line.ts';
import { RateMeter, renderProgress } from '../progress.ts';
import { waitForExit, warnOfHolders } from '../service-end.ts';
import { Mounts } from '../target.ts';
import { shellWord, visible, visibleSentence } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { formatBytes, plural } from '../units.ts';
import { ExitCode, UsageError } from '../verb.ts';
import type { Verb } from '../verb.ts';

interface DetachCliOptions {
  readonly recall?: boolean;
  readonly keep?: boolean;
  readonly json?: boolean;
}

export const detach: Verb = {
  name: 'detach',
  summary: 'end an attached tree: keep it hidden, or recall all of it',
  synopsis: ['[--keep] [--json] TREE', '--recall [--json] TREE'],
  description: [
    'Without an option, and with --keep: TREE shows nothing any more, and nothing of Ebb runs for it. All files, ' +
      'those of your own too, are kept in TREE/.ebb, which only root can enter; files not wholly here hold no ' +
      'content that could be mistaken for theirs. ebb attach TREE brings all of it back.',
    'With --recall everything is brought here first. Then TREE becomes an ordinary directory with ordinary files, ' +
      'and Ebb forgets it. If anything cannot be recalled, the tree stays attached as it was, and what is missing is ' +
      'named. It can be interrupted and started again. A refresh, get, release or verify that is under way is ended.',
    'A tree that somebody uses is not detached; who uses it is listed.',
  ],
  exitCodes: {
    1: 'Not everything could be recalled: the tree is still attached. Or TREE is no attached tree.',
    3: 'The tree is busy; standard error lists who uses it. It is still attached.',
  },
  examples: [
    { command: 'ebb detach /srv/sets', explanation: 'Until the next ebb attach /srv/sets.' },
    { command: 'ebb detach --recall /srv/sets', explanation: 'For ever, with all content.' },
  ],
  define: (command) => {
    command
      .argument('<TREE>')
      .option('--keep', 'Keeps everything as it is, hidden. The default.')
      .option('--recall', 'Recalls everything, then makes TREE an ordinary directory.')
      .option(
        '--json',
        'Prints one JSON object a line: progress of files, last {"done": DetachResult}.',
      );
  },
  run: async (command, terminal) => {
    const options = command.opts<DetachCliOptions>();
    if (options.keep === true && options.recall === true) {
      throw new UsageError('use either --keep or --recall');
    }
    const { client, inside } = new Mounts().locate(command.args[0] ?? '');
    const { record } = client;
    if (record.kind !== 'tree') {
      throw ebbError(
        'EINVAL',
        `${record.mountPoint} is a mount, not a tree; take it away with: ebb umount`,
      );
    }
    if (inside !== '') {
      throw ebbError(
        'EINVAL',
        `That is inside the tree ${record.mountPoint}; name the tree itself.`,
      );
    }
    const result = await follow(
      client.detach({ recall: options.recall === true }),
      options,
      terminal,
    );
    if (result.outcome === 'kept' || result.outcome === 'ordinary') await waitForExit(record);
    return report(result, record.mountPoint, options.json === true, terminal);
  },
};

async function follow(
  lines: AsyncIterable<Progress | { readonly done: DetachResult }>,
  options: DetachCliOptions,
  terminal: Terminal,
): Promise<DetachResult> {
  const meter = new RateMeter();
  const drawn = new ProgressLine(options.json === true ? undefined : terminal);
  for await (const line of lines) {
    if (options.json === true) terminal.print(JSON.stringify(line));
    if ('done' in line) {
      drawn.erase();
      return line.done;
    }
    meter.add(line.totalDoneBytes, systemClock.monotonicMs());
    const rate = meter.bytesPerSecond();
    drawn.draw((columns) => renderProgress(line, rate, columns), drawIntervalMs);
  }
  throw ebbError('EIO', 'The daemon broke off its answer; see: ebb status');
}

function report(result: DetachResult, tree: string, json: boolean, terminal: Terminal): ExitCode {
  const say = (sentence: string): void => {
    if (!json) terminal.print(sentence);
  };
  switch (result.outcome) {
    case 'kept':
      say(
        `Detached ${visible(tree)}: ${plural(result.stubs, 'file')} of the remote ` +
          `(${formatBytes(result.residentBytes)} here) and all of your own are kept in it, hidden; ` +
          `bring them back with: ebb attach ${shellWord(tree)}`,
      );
      return ExitCode.done;
    case 'ordinary':
      say(
        `Detached ${visible(tree)}: an ordinary directory now, ${plural(result.files, 'file')} of the remote ` +
          `(${formatBytes(result.bytes)}) are all here`,
      );
      return ExitCode.done;
    case 'busy':
      terminal.warn(`ebb detach: ${visible(tree)} is busy, and still attached:`);
      warnOfHolders(result.holders, terminal);
      return ExitCode.refused;
    case 'incomplete':
      for (const { path, error } of result.problems) {
        terminal.warn(`ebb detach: ${visible(path)}: ${visibleSentence(error)}`);
      }
      terminal.warn(
        `ebb detach: ${plural(result.failed, 'file')} could not be recalled; ${visible(tree)} is still attached`,
      );
      return ExitCode.failed;
  }
}

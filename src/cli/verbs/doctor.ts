/** `ebb doctor`: can this machine mount, what is missing, what does it cost? Works without a daemon. */
import type { DoctorReport } from '../../daemon/helper-api.ts';
import { runHelper } from '../helper.ts';
import { wrap } from '../help.ts';
import { defaultCacheParent } from '../mount/options.ts';
import { absolutePath } from '../target.ts';
import { visible } from '../terminal.ts';
import { plural } from '../units.ts';
import { ExitCode } from '../verb.ts';
import type { Verb } from '../verb.ts';

const nameColumns = 20;

export const doctor: Verb = {
  name: 'doctor',
  summary: 'check whether this machine can mount, and what is missing',
  synopsis: ['[--cache-dir DIR] [--json]', '[--json] TREE'],
  description: [
    'Checks the kernel, /dev/fuse, passthrough, fusermount3, limits, settings, the clock, and the file system of ' +
      'the cache (by a small file that is removed again). Each check is ok, warn (works, at a cost that is told) ' +
      'or fail (cannot be mounted until it is repaired). Run it as the user who is going to mount.',
    'With TREE, a directory that is or may become a tree (ebb attach): what the kernel can do with its files, tried ' +
      'out with a file without a name, and what its file system cannot.',
  ],
  exitCodes: {
    0: 'Mounting (attaching) works, perhaps with warnings.',
    1: 'Mounting (attaching) cannot work here yet.',
  },
  examples: [
    { command: 'ebb doctor', explanation: 'With the usual place of the cache.' },
    { command: 'ebb doctor --cache-dir /srv/cache --json', explanation: 'For a script.' },
    { command: 'ebb doctor /srv/sets', explanation: 'What a tree there can and cannot do.' },
  ],
  define: (command) => {
    command
      .argument('[TREE]')
      .option('--cache-dir <DIR>', 'Where the cache would be. Default: as for ebb mount.')
      .option('--json', 'Prints one JSON object: DoctorReport.');
  },
  run: async (command, terminal) => {
    const options = command.opts<{ cacheDir?: string; json?: boolean }>();
    const cacheDirectory =
      options.cacheDir === undefined ? defaultCacheParent() : absolutePath(options.cacheDir);
    const [tree] = command.args;
    const words = tree === undefined ? [cacheDirectory] : ['--tree', absolutePath(tree)];
    const report = (await runHelper('doctor', words)) as DoctorReport;
    const code = report.canMount ? ExitCode.done : ExitCode.failed;
    if (options.json === true) {
      terminal.print(JSON.stringify(report));
      return code;
    }
    for (const { name, outcome, found, advice } of report.checks) {
      terminal.print(`${outcome.padEnd(4)}  ${name.padEnd(nameColumns)}${visible(found)}`);
      if (advice === undefined) continue;
      for (const line of wrap(visible(advice), Math.min(terminal.columns, 100), ' '.repeat(8))) {
        terminal.print(line);
      }
    }
    const warnings = report.checks.filter((check) => check.outcome === 'warn').length;
    const [who, what] =
      tree === undefined ? ['This machine', 'mount'] : [visible(tree), 'be attached'];
    terminal.print(
      report.canMount
        ? `\n${who} can ${what}${warnings > 0 ? `, with ${plural(warnings, 'warning')}` : ''}.`
        : `\n${who} cannot ${what} yet: see what fails above.`,
    );
    return code;
  },
};

/** `ebb log`: what the daemon has done and what went wrong. */
import type { LogRecord } from '../../daemon/api.ts';
import { Mounts } from '../target.ts';
import { visible, visibleSentence } from '../terminal.ts';
import { parseCount } from '../units.ts';
import { ExitCode } from '../verb.ts';
import type { Verb } from '../verb.ts';

interface LogOptions {
  readonly follow?: boolean;
  readonly lines: string;
  readonly json?: boolean;
}

const linesMax = 100_000;

export const log: Verb = {
  name: 'log',
  summary: 'what the daemon has done',
  synopsis: ['[-F] [-n N] [--json] [DIR]'],
  description: [
    'Prints the last records of a mount: recalls, releases, refusals, errors, with their reasons. Without DIR the ' +
      'mount of the working directory is meant, or the only one there is.',
    'A daemon that died leaves its last words in its log file next to its socket; ebb status names dead daemons.',
  ],
  examples: [
    { command: 'ebb log -n 20 /mnt/pub', explanation: 'The last 20 records.' },
    { command: 'ebb log -F', explanation: 'Follows what happens, until Ctrl-C.' },
  ],
  define: (command) => {
    command
      .argument('[DIR]')
      .option('-F, --follow', 'Goes on printing new records until interrupted.')
      .option('-n, --lines <N>', 'At most this many old records, 0 to 100000; default 100.', '100')
      .option('--json', 'Prints one JSON object a line: LogRecord (times in ms since 1970).');
  },
  run: async (command, terminal) => {
    const options = command.opts<LogOptions>();
    const lines = parseCount(options.lines, '--lines', 0, linesMax);
    const [target] = new Mounts().locateAll(command.args);
    if (target === undefined) return ExitCode.failed;
    for await (const record of target.client.log(options.follow === true, lines)) {
      terminal.print(options.json === true ? JSON.stringify(record) : renderLogRecord(record));
      await terminal.drained();
    }
    return ExitCode.done;
  },
};

/** `2026-11-21T08:15:00.000Z WARN  message key=value`. Pure. */
export function renderLogRecord(record: LogRecord): string {
  const time = new Date(record.timeMs).toISOString();
  const fields = Object.entries(record.fields ?? {}).map(
    ([key, value]) => ` ${visible(key)}=${renderValue(value)}`,
  );
  const level = record.level.toUpperCase().padEnd(5);
  return `${time} ${level} ${visibleSentence(record.message)}${fields.join('')}`;
}

function renderValue(value: string | number | boolean | null): string {
  if (typeof value !== 'string') return String(value);
  return /^[\w./:@%+-]+$/.test(value) ? value : `"${visible(value)}"`;
}

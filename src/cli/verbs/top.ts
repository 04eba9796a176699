/** `ebb top`: what is being recalled now, and who asks for most. */
import { setTimeout as sleep } from 'node:timers/promises';
import { toEbbError } from '../../base/errors.ts';
import type { Top, TopEntry } from '../../daemon/api.ts';
import { answerInTime } from '../answer-in-time.ts';
import { ControlClient } from '../client.ts';
import { commandLine } from '../command-lines.ts';
import { renderTable } from '../table.ts';
import { Mounts } from '../target.ts';
import { visible, visibleSentence } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { formatBytes, formatCount, formatDuration, formatRate, parseDuration } from '../units.ts';
import { ExitCode, UsageError } from '../verb.ts';
import type { Verb } from '../verb.ts';

interface TopOptions {
  readonly once?: boolean;
  readonly json?: boolean;
  readonly interval: string;
}

const intervalMinMs = 100;
const liveRowsMax = 20;
const requesterRowsMax = 10;
const commandColumnsMax = 40;

export const top: Verb = {
  name: 'top',
  summary: 'live view of recalls and who causes them',
  synopsis: ['[--once] [--interval DURATION] [--json] [DIR...]'],
  description: [
    'Shows for each mount (or those of DIR) the recalls in flight, with the process that waits for them, and the ' +
      'processes that have caused most traffic since the mount began. Refreshes until Ctrl-C; without a terminal ' +
      'it prints once unless --interval is given with --json.',
  ],
  examples: [
    { command: 'ebb top', explanation: 'All mounts, refreshed every second.' },
    { command: 'ebb top --once --json /mnt/pub', explanation: 'One reading for a script.' },
  ],
  define: (command) => {
    command
      .argument('[DIR...]')
      .option('--once', 'Prints one reading and ends.')
      .option('--interval <DURATION>', 'Time between readings, at least 100ms; default 1s.', '1s')
      .option('--json', 'Prints one JSON object a line and reading: Top with "mountPoint".');
  },
  run: async (command, terminal) => {
    const options = command.opts<TopOptions>();
    const intervalMs = parseDuration(options.interval, '--interval');
    if (intervalMs < intervalMinMs) throw new UsageError('--interval must be at least 100ms');
    const mounts = new Mounts();
    const clients =
      command.args.length > 0
        ? command.args.map((typed) => mounts.locate(typed).client)
        : mounts.live.map((record) => new ControlClient(record));
    if (clients.length === 0) {
      terminal.warn('ebb top: Nothing is mounted; see: ebb mount --help');
      return ExitCode.failed;
    }
    const repeats = options.once !== true && (terminal.isTerminal || options.json === true);
    for (;;) {
      const code = await showAll(clients, options.json === true, repeats, terminal);
      if (!repeats || code !== ExitCode.done) return code;
      await terminal.drained();
      await sleep(intervalMs);
    }
  },
};

async function showAll(
  clients: readonly ControlClient[],
  json: boolean,
  clears: boolean,
  terminal: Terminal,
): Promise<ExitCode> {
  const lines: string[] = [];
  let code: ExitCode = ExitCode.done;
  for (const client of clients) {
    const { mountPoint } = client.record;
    try {
      const reading = await inFull(await answerInTime(client.record, client.top()));
      if (json) lines.push(JSON.stringify({ mountPoint, ...reading }));
      else lines.push(...renderTop(mountPoint, reading), '');
    } catch (error) {
      terminal.warn(`ebb top: ${visibleSentence(toEbbError(error).message)}`);
      code = ExitCode.failed;
    }
  }
  const clear = clears && !json ? '\u001b[H\u001b[J' : '';
  terminal.write(`${clear}${lines.join('\n')}\n`);
  return code;
}

/** With whole command lines, of as many as are shown. */
async function inFull(reading: Top): Promise<Top> {
  const asked = new Map<number, Promise<string>>();
  const full = async <Entry extends { readonly pid: number; readonly command: string }>(
    entry: Entry,
  ): Promise<Entry> => {
    const line = asked.get(entry.pid) ?? commandLine(entry.pid, entry.command);
    asked.set(entry.pid, line);
    return { ...entry, command: await line };
  };
  const { live, requesters } = reading;
  const shown = await Promise.all(live.slice(0, liveRowsMax).map(full));
  const first = await Promise.all(requesters.slice(0, requesterRowsMax).map(full));
  return {
    ...reading,
    live: [...shown, ...live.slice(liveRowsMax)],
    requesters: [...first, ...requesters.slice(requesterRowsMax)],
  };
}

/** The screen of one mount as lines. Pure. */
export function renderTop(mountPoint: string, reading: Top): string[] {
  const { live, requesters, bytesPerSecond } = reading;
  const head =
    `${visible(mountPoint)}   ${formatRate(bytesPerSecond)}   ` +
    `${formatCount(live.length)} in flight`;
  const liveTable = renderTable(
    [
      { title: 'PID', align: 'right' },
      { title: 'COMMAND' },
      { title: 'DONE', align: 'right' },
      { title: 'OF', align: 'right' },
      { title: 'AT', align: 'right' },
      { title: 'AGE', align: 'right' },
      { title: 'PATH' },
    ],
    live.slice(0, liveRowsMax).map(liveCells),
  );
  const requesterTable = renderTable(
    [
      { title: 'PID', align: 'right' },
      { title: 'COMMAND' },
      { title: 'UID', align: 'right' },
      { title: 'RECALLS', align: 'right' },
      { title: 'BYTES', align: 'right' },
    ],
    requesters
      .slice(0, requesterRowsMax)
      .map((one) => [
        String(one.pid),
        shortCommand(one.command),
        String(one.uid),
        formatCount(one.recalls),
        formatBytes(one.bytes),
      ]),
  );
  return [
    head,
    ...(live.length > 0 ? ['', ...liveTable] : []),
    ...(requesters.length > 0 ? ['', 'Since the mount began:', ...requesterTable] : []),
  ];
}

/** Columns of other things stay in sight; `--json` has all of it. */
function shortCommand(command: string): string {
  const shown = visible(command);
  return shown.length <= commandColumnsMax ? shown : `${shown.slice(0, commandColumnsMax - 3)}...`;
}

function liveCells(entry: TopEntry): string[] {
  return [
    String(entry.pid),
    shortCommand(entry.command),
    formatBytes(entry.doneBytes),
    formatBytes(entry.lengthBytes),
    formatBytes(entry.offsetBytes),
    formatDuration(entry.ageMs),
    visible(entry.path),
  ];
}

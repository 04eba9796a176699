/** `ebb open`: the content or the facts of the file that a token stands for. */
import type { FileInfo } from '../../daemon/api.ts';
import { fileCells, fileColumns } from '../file-line.ts';
import { renderTable } from '../table.ts';
import { absoluteInMount } from '../target.ts';
import { clientOfToken } from '../token-target.ts';
import { ExitCode, UsageError } from '../verb.ts';
import type { Verb } from '../verb.ts';

interface Options {
  readonly range?: string;
  readonly stat?: boolean;
  readonly json?: boolean;
}

export const open: Verb = {
  name: 'open',
  summary: 'read a file by its token',
  synopsis: ['[--range FIRST-LAST] TOKEN', '--stat [--json] TOKEN'],
  description: [
    'Writes the content of the file that TOKEN stands for (ebb handle) to standard output, recalling what is not ' +
      'here. A token that was made up, cut, revoked, or given out by another cache is refused; so is one whose file ' +
      'is gone or has another version at the remote.',
    'Programs do the same over the control socket: GET /v1/handles/TOKEN, with a Range header.',
  ],
  exitCodes: { 1: 'The token was refused, or its content could not be read to the end.' },
  examples: [
    { command: 'ebb open "$token" > copy', explanation: 'All of it.' },
    { command: 'ebb open --range 0-511 "$token"', explanation: 'The first 512 bytes.' },
    { command: 'ebb open --stat "$token"', explanation: 'Size, state and the name it has now.' },
  ],
  define: (command) => {
    command
      .argument('<TOKEN>')
      .option(
        '--range <FIRST-LAST>',
        'Bytes from FIRST to LAST, counted from 0, both included; FIRST- to the end; -N the last N.',
      )
      .option('--stat', 'Prints what is known of the file instead of its content.')
      .option('--json', 'With --stat: one JSON object, FileInfo with an absolute path.');
  },
  run: async (command, terminal) => {
    const { range, stat, json } = command.opts<Options>();
    if (range !== undefined && (!/^\d*-\d*$/.test(range) || range === '-')) {
      throw new UsageError(`--range takes FIRST-LAST, FIRST- or -N, not ${range}`);
    }
    if (json === true && stat !== true) throw new UsageError('--json goes with --stat');
    if (range !== undefined && stat === true)
      throw new UsageError('--range reads, --stat does not');
    const token = command.args[0] ?? '';
    const client = await clientOfToken(token);
    if (stat === true) {
      const info = await client.tokenInfo(token);
      const path = absoluteInMount(client.record.mountPoint, info.path);
      const shown = json === true ? [JSON.stringify({ ...info, path })] : table(info, path);
      for (const line of shown) terminal.print(line);
      return ExitCode.done;
    }
    for await (const piece of client.tokenContent(token, range)) await terminal.writeBytes(piece);
    return ExitCode.done;
  },
};

function table(info: FileInfo, path: string): Iterable<string> {
  return renderTable(fileColumns, [fileCells(info, path, false)]);
}

/** `ebb refresh`: do not wait for the time to live; ask the remote again now. */
import type { ActionResult } from '../../daemon/api.ts';
import { collectBatches, definePathArguments } from '../path-arguments.ts';
import type { PathOptions } from '../path-arguments.ts';
import { Mounts } from '../target.ts';
import { plural } from '../units.ts';
import { ExitCode } from '../verb.ts';
import type { Verb } from '../verb.ts';

export const refresh: Verb = {
  name: 'refresh',
  summary: 'ask the remote again now',
  synopsis: ['[-n] [--json] PATH...'],
  description: [
    'Listings and versions are trusted for the time given by ebb mount --ttl. This asks the remote now: ' +
      'directories are listed again, files are checked for a new version. Content that is here and unchanged ' +
      'stays; programs that have a file open keep the version they opened.',
  ],
  examples: [{ command: 'ebb refresh /mnt/pub/incoming', explanation: 'Shows new files at once.' }],
  define: (command) => {
    definePathArguments(command);
    command
      .option('-n, --dry-run', 'Says what would be asked for and asks nothing.')
      .option('--json', 'Prints one JSON object: {"done": ...} with the sums.');
  },
  run: async (command, terminal) => {
    const options = command.opts<PathOptions & { dryRun?: boolean; json?: boolean }>();
    const dryRun = options.dryRun === true;
    const sum = { ok: 0, failed: 0, refused: 0, bytes: 0 };
    for (const { client, request } of await collectBatches(
      new Mounts(),
      command.args,
      options,
      dryRun,
    )) {
      const done: ActionResult = await client.refresh(request);
      sum.ok += done.ok;
      sum.failed += done.failed;
      sum.refused += done.refused;
    }
    if (options.json === true) terminal.print(JSON.stringify({ done: sum }));
    else {
      const failed = sum.failed > 0 ? `, ${sum.failed} failed (ebb log says why)` : '';
      const word = dryRun ? 'would be refreshed' : 'refreshed';
      terminal.print(`${plural(sum.ok, 'entry', 'entries')} ${word}${failed}`);
    }
    if (sum.failed > 0) return ExitCode.failed;
    return sum.refused > 0 ? ExitCode.refused : ExitCode.done;
  },
};

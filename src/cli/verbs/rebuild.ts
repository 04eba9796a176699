/** `ebb rebuild`: the catalog is only an index; make it anew from the marks on the cache's files. */
import type { RebuildResult } from '../../daemon/helper-api.ts';
import { isRunning, readRunRecords } from '../../base/run-directory.ts';
import { runHelper } from '../helper.ts';
import { absolutePath, Mounts } from '../target.ts';
import { visible, visibleSentence } from '../terminal.ts';
import { formatBytes, plural } from '../units.ts';
import { ExitCode } from '../verb.ts';
import type { Verb } from '../verb.ts';

export const rebuild: Verb = {
  name: 'rebuild',
  summary: 'make the catalog of a cache or a tree anew from its files',
  synopsis: ['[-n] [--json] CACHE_DIR', '[-n] [--json] TREE'],
  description: [
    'Every file of a cache carries a mark that says what it is. If the catalog is lost or damaged, this reads all ' +
      'marks and writes a new catalog; the old one is kept beside it. Content that is here stays here. Names ' +
      'that have no content come back when the remote is listed.',
    'CACHE_DIR is the directory given to ebb mount --cache-dir, or a directory below the default one; ebb status ' +
      'names it while it is mounted. It must not be mounted while it is rebuilt.',
    'TREE is a tree that is not attached at the moment (ebb umount TREE). Files that somebody had open for writing ' +
      'when its catalog was lost count as your own; what you deleted comes back with the next ebb attach.',
  ],
  exitCodes: { 3: 'A daemon uses the cache: unmount first. Nothing was changed.' },
  examples: [
    { command: 'ebb rebuild /srv/cache/sets', explanation: 'After a damaged disk.' },
    { command: 'ebb rebuild /srv/sets', explanation: 'Of a tree; then: ebb attach /srv/sets' },
  ],
  define: (command) => {
    command
      .argument('<DIR>')
      .option('-n, --dry-run', 'Says whether it could be done; changes nothing.')
      .option('--json', 'Prints one JSON object: RebuildResult.');
  },
  run: async (command, terminal) => {
    const options = command.opts<{ dryRun?: boolean; json?: boolean }>();
    const directory = absolutePath(command.args[0] ?? '');
    const user = readRunRecords().find((one) => one.cacheDirectory === directory && isRunning(one));
    const inMount = new Mounts().tryLocate(directory);
    const result: RebuildResult =
      user === undefined && inMount === undefined
        ? await ask(directory, options.dryRun === true)
        : inUse((user ?? inMount?.client.record)?.mountPoint ?? '', directory, user !== undefined);
    if (options.json === true) terminal.print(JSON.stringify(result));
    if (!result.ok) {
      terminal.warn(`ebb rebuild: ${visibleSentence(result.error)}`);
      return result.exitCode;
    }
    if (options.json !== true) {
      const verb = options.dryRun === true ? 'can be rebuilt' : 'rebuilt';
      terminal.print(
        `${visible(directory)} ${verb}: ${plural(result.files, 'file')}, ` +
          `${formatBytes(result.residentBytes)} here, ${result.skipped} skipped`,
      );
    }
    return ExitCode.done;
  },
};

async function ask(directory: string, dryRun: boolean): Promise<RebuildResult> {
  const words = dryRun ? ['--dry-run', directory] : [directory];
  return (await runHelper('rebuild', words)) as RebuildResult;
}

function inUse(mountPoint: string, directory: string, isCache: boolean): RebuildResult {
  const error =
    isCache || mountPoint === directory
      ? `It is in use; first: ebb umount ${mountPoint}`
      : `That directory is inside the mount ${mountPoint}; name the cache's own directory (ebb status).`;
  return { ok: false, error, code: 'EBUSY', exitCode: 3 };
}

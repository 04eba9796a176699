/** `ebb pool`: a file system for trees, in a file. */
import { existsSync } from 'node:fs';
import type { PoolRequest, PoolResult } from '../../daemon/helper-api.ts';
import { complain } from '../failure.ts';
import { runHelper } from '../helper.ts';
import { renderFacts } from '../table.ts';
import { absolutePath, realDirectory } from '../target.ts';
import { shellWord, visible } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { formatBytes, parseSize } from '../units.ts';
import { ExitCode, UsageError } from '../verb.ts';
import type { Verb } from '../verb.ts';

interface PoolCliOptions {
  readonly size?: string;
  readonly overcommit?: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
}

const actions = ['create', 'mount', 'status', 'grow', 'umount', 'destroy'] as const;
type Action = (typeof actions)[number];

export const pool: Verb = {
  name: 'pool',
  actions,
  summary: 'a file system for trees, in a file',
  synopsis: [
    'create --size SIZE [--overcommit] [--json] IMAGE [DIR]',
    'mount [--json] IMAGE DIR',
    'status [--json] IMAGE',
    'grow --size SIZE [--overcommit] [--json] IMAGE',
    'umount [--json] IMAGE',
    'destroy [--force] [--json] IMAGE',
  ],
  description: [
    'ebb attach watches a whole file system, so a tree wants one of its own. Where there is none to spare, a pool is ' +
      'one: an xfs in the sparse file IMAGE. It takes room as it is filled and gives it back when content is ' +
      'released. Needs root, and mkfs.xfs (package xfsprogs).',
    'create makes IMAGE and, with DIR, mounts it there; mount, umount and status do what they say; grow makes a ' +
      'mounted pool larger while it is used; destroy deletes an unmounted one, and refuses while anything is in it.',
    'A pool that does not get its blocks, because the file system around it is full, stops working as a broken disk ' +
      'does. So none is made larger than what is free, unless with --overcommit.',
    'IMAGE is not mounted again after a reboot: run ebb pool mount, then ebb attach.',
  ],
  exitCodes: {
    3: 'Refused: it is in use, holds files, exists already, or has no room. Nothing was changed.',
  },
  examples: [
    {
      command: 'ebb pool create --size 200G /var/lib/ebb/pool.xfs /srv/pool',
      explanation:
        'Then: mkdir /srv/pool/sets; ebb attach /srv/pool/sets https://data.example.org/sets/',
    },
    {
      command: 'ebb pool grow --size 300G /var/lib/ebb/pool.xfs',
      explanation: 'While it is used.',
    },
  ],
  define: (command) => {
    command
      .argument('<ACTION>')
      .argument('<IMAGE>')
      .argument('[DIR]')
      .option('--size <SIZE>', 'Size of the file system: a number with K, M, G, T; at least 300M.')
      .option('--overcommit', 'Even when so much is not free around it.')
      .option('--force', 'Destroys the pool with all files in it.')
      .option('--json', 'Prints the result as one JSON object: PoolResult.');
  },
  run: async (command, terminal) => {
    const [action = '', image = '', directory] = command.args;
    const options = command.opts<PoolCliOptions>();
    const request = requestOf(action, absolutePath(image), directory, options);
    const result = (await runHelper('pool', [JSON.stringify(request)])) as PoolResult;
    return report(request, result, options.json === true, terminal);
  },
};

function requestOf(
  word: string,
  imagePath: string,
  directory: string | undefined,
  options: PoolCliOptions,
): PoolRequest {
  const action = actionOf(word);
  const takesDirectory = action === 'create' || action === 'mount';
  const takesSize = action === 'create' || action === 'grow';
  if (directory !== undefined && !takesDirectory) throw new UsageError(`${action} takes no DIR`);
  if (options.size !== undefined && !takesSize) throw new UsageError(`${action} takes no --size`);
  if (options.overcommit === true && !takesSize)
    throw new UsageError(`${action} takes no --overcommit`);
  if (options.force === true && action !== 'destroy')
    throw new UsageError('--force is for destroy');
  if (action !== 'create' && !existsSync(imagePath)) {
    throw new UsageError(
      `there is no pool ${imagePath}; make it with: ebb pool create --size SIZE`,
    );
  }
  const mountPoint = directory === undefined ? undefined : realDirectory(directory, 'mount point');
  switch (action) {
    case 'create':
      return {
        ...sized(action, imagePath, options),
        ...(mountPoint === undefined ? {} : { mountPoint }),
      };
    case 'grow':
      return sized(action, imagePath, options);
    case 'mount':
      if (mountPoint === undefined) throw new UsageError('mount wants IMAGE and DIR');
      return { action, imagePath, mountPoint };
    case 'destroy':
      return { action, imagePath, force: options.force === true };
    default:
      return { action, imagePath };
  }
}

function sized<Sized extends 'create' | 'grow'>(
  action: Sized,
  imagePath: string,
  { size, overcommit = false }: PoolCliOptions,
) {
  if (size === undefined) throw new UsageError(`${action} wants --size SIZE`);
  return { action, imagePath, sizeBytes: parseSize(size, '--size'), overcommit };
}

function actionOf(word: string): Action {
  const action = actions.find((known) => known === word);
  if (action === undefined)
    throw new UsageError(`the actions are ${actions.join(', ')}, not "${word}"`);
  return action;
}

function report(
  { action, imagePath }: PoolRequest,
  result: PoolResult,
  json: boolean,
  terminal: Terminal,
): ExitCode {
  if (!result.ok) return complain(result, `ebb pool ${action}`, json, terminal);
  if (json) {
    terminal.print(JSON.stringify(result));
    return ExitCode.done;
  }
  const found = result.pool;
  if (found === null) {
    terminal.print(`Destroyed ${visible(imagePath)}`);
    return ExitCode.done;
  }
  const { sizeBytes, allocatedBytes, mountPoint, device } = found;
  const where = mountPoint === null ? 'not mounted' : `mounted at ${mountPoint}`;
  if (action === 'status') {
    terminal.print(visible(imagePath));
    const facts = [
      ['size', formatBytes(sizeBytes)],
      ['taken so far', formatBytes(allocatedBytes)],
      ['mounted at', mountPoint === null ? 'not mounted' : visible(mountPoint)],
      ['device', device ?? 'none'],
    ] as const;
    for (const line of renderFacts(facts)) terminal.print(line);
    return ExitCode.done;
  }
  const next =
    mountPoint === null && action === 'create'
      ? `; mount it with: ebb pool mount ${shellWord(imagePath)} DIR`
      : '';
  terminal.print(`${visible(imagePath)}: ${formatBytes(sizeBytes)}, ${visible(where)}${next}`);
  return ExitCode.done;
}

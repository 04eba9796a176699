/** `ebb umount`: ask the daemon to go; where it is dead, clean up after it. */
import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { findMountHolders } from '../../base/mount-holders.ts';
import {
  coveredError,
  isEbbMount,
  isImageMount,
  isTreeMount,
  mountAt,
  readMountInfo,
} from '../../base/mount-info.ts';
import type { MountInfo } from '../../base/mount-info.ts';
import { isRunning, removeRunRecord } from '../../base/run-directory.ts';
import type { StopResult } from '../../daemon/api.ts';
import type { RunRecord } from '../../base/run-directory.ts';
import { ControlClient } from '../client.ts';
import { waitForExit, warnOfHolders } from '../service-end.ts';
import { absolutePath, Mounts } from '../target.ts';
import { shellWord, visible, visibleSentence } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { ExitCode } from '../verb.ts';
import type { Verb } from '../verb.ts';

const servedMaxMs = 15_000;
const servedPollMs = 50;

interface UmountOptions {
  readonly lazy?: boolean;
  readonly json?: boolean;
  readonly dryRun?: boolean;
}

export const umount: Verb = {
  name: 'umount',
  summary: 'take a mount away again',
  synopsis: ['[-l | -n] [--json] DIR...'],
  description: [
    'Unmounts DIR and ends its daemon. The cache stays: the next mount of the same remote finds it. A mount that ' +
      'somebody uses is not taken away; who uses it is listed.',
    'DIR is a mount, a mounted image, or an attached tree, which is detached (ebb detach DIR does the same).',
    'If the daemon died, the dead mount and what it left behind are cleaned up.',
  ],
  exitCodes: {
    3: 'The mount is busy; standard error lists who uses it, or says what lies over it. Nothing was changed.',
  },
  examples: [
    { command: 'ebb umount /mnt/pub', explanation: 'One mount.' },
    {
      command: 'ebb umount -l /mnt/pub',
      explanation: 'Away from the name space now; programs that use it may finish.',
    },
  ],
  define: (command) => {
    command
      .argument('<DIR...>')
      .option('-l, --lazy', 'Detaches the mount now, even when it is busy.')
      .option('-n, --dry-run', 'Says what would be unmounted and who uses it; changes nothing.')
      .option('--json', 'Prints one JSON object a line: StopResult with "mountPoint".');
  },
  run: async (command, terminal) => {
    const options = command.opts<UmountOptions>();
    let code: ExitCode = ExitCode.done;
    for (const typed of command.args) {
      try {
        const { mountPoint, result } = await unmountOne(
          typed,
          options.lazy === true,
          options.dryRun === true,
        );
        if (options.json === true) terminal.print(JSON.stringify({ mountPoint, ...result }));
        const busy = report(mountPoint, result, options, terminal);
        if (busy && code === ExitCode.done) code = ExitCode.refused;
      } catch (error) {
        const known = toEbbError(error);
        terminal.warn(`ebb umount: ${visibleSentence(known.message)}`);
        const isRefused: boolean = known.code === 'EBUSY' && code !== ExitCode.failed;
        code = isRefused ? ExitCode.refused : ExitCode.failed;
      }
    }
    return code;
  },
};

function report(
  mountPoint: string,
  result: StopResult,
  { dryRun = false, json = false }: UmountOptions,
  terminal: Terminal,
): boolean {
  if (dryRun && result.holders.length === 0) {
    if (!json) terminal.print(`Nobody uses ${visible(mountPoint)}; nothing was unmounted.`);
    return false;
  }
  if (result.stopped) return false;
  terminal.warn(
    `ebb umount: ${visible(mountPoint)} is busy${result.holders.length > 0 ? ':' : ''}`,
  );
  warnOfHolders(result.holders, terminal);
  if (!dryRun)
    terminal.warn(`    end them, or detach it anyway with: ebb umount -l ${shellWord(mountPoint)}`);
  return true;
}

async function unmountOne(
  typed: string,
  lazy: boolean,
  dryRun: boolean,
): Promise<{ mountPoint: string; result: StopResult }> {
  const absolute = absolutePath(typed);
  const mounts = await onceServed(absolute, lazy || dryRun);
  const target = mounts.tryLocate(typed);
  if (target !== undefined && target.inside !== '') {
    const { mountPoint } = target.client.record;
    throw ebbError(
      'EINVAL',
      `${absolute} is inside the mount ${mountPoint}; name the mount itself.`,
    );
  }
  const record =
    target?.client.record ?? mounts.dead.find((candidate) => candidate.mountPoint === absolute);
  const mountPoint = record?.mountPoint ?? absolute;
  if (dryRun) {
    if (record === undefined) requireOurs(mountPoint);
    return { mountPoint, result: { stopped: false, holders: await findMountHolders(mountPoint) } };
  }
  if (target === undefined) return { mountPoint, result: await cleanUp(mountPoint, record, lazy) };
  const result = await stop(target.client.record, lazy);
  if (result.stopped) await waitForExit(target.client.record);
  return { mountPoint, result };
}

/**
 * Somebody is about to serve a tree whose daemon died, or whose supervisor did and its keeper lives; he knows how it is
 * taken away. `atOnce`: a supervisor without a daemon is enough.
 */
async function onceServed(mountPoint: string, atOnce: boolean): Promise<Mounts> {
  let wasKept = false;
  for (let waitedMs = 0; ; waitedMs += servedPollMs) {
    const mounts = new Mounts();
    const found = [...mounts.dead, ...mounts.live].find((one) => one.mountPoint === mountPoint);
    const isDead = found !== undefined && mounts.dead.includes(found);
    if (isDead && found.keeper !== undefined && isRunning(found.keeper)) wasKept = true;
    else if (isDead || found?.kind !== 'tree') return mounts;
    else if ((atOnce && !wasKept) || (await answers(found))) return mounts;
    if (waitedMs >= servedMaxMs) return mounts;
    await sleep(servedPollMs);
  }
}

function answers(record: RunRecord): Promise<boolean> {
  return new ControlClient(record).status().then(
    () => true,
    () => false,
  );
}

/**
 * What has no daemon that answers has a supervisor all the same, which knows no other way than the lazy one. Of a mount
 * without a daemon nobody can read anything: who uses it is let go.
 */
async function stop(record: RunRecord, lazy: boolean): Promise<StopResult> {
  try {
    return await new ControlClient(record).stop(lazy);
  } catch (error) {
    const isSilent = toEbbError(error).code === 'ENOTCONN';
    // It has ended meanwhile: somebody else asked for it, too.
    if (isSilent && !isRunning(record)) return await cleanUp(record.mountPoint, record, lazy);
    const isLost = record.kind !== 'tree' && isSilent;
    if (!(isLost || (record.kind === 'tree' && lazy)) || !isRunning(record)) throw error;
    process.kill(record.pid, 'SIGTERM');
    return { stopped: true, holders: [] };
  }
}

/** A mount without a daemon: nobody can answer, so nothing may be asked of the file system itself. */
async function cleanUp(
  mountPoint: string,
  record: RunRecord | undefined,
  lazy: boolean,
): Promise<StopResult> {
  if (isOursAt(mountPoint)) {
    const owner = ownerElse(mountPoint);
    if (owner !== undefined) {
      throw ebbError('EPERM', `${mountPoint} is a mount of user ${owner}, not yours.`);
    }
    const problem = unmountStale(mountPoint, lazy);
    if (problem !== undefined) {
      const holders = await findMountHolders(mountPoint);
      if (holders.length > 0) return { stopped: false, holders };
      throw ebbError('EBUSY', `Cannot unmount ${mountPoint}: ${problem}`);
    }
  } else if (record === undefined) {
    throw notOurs(mountPoint);
  }
  if (record !== undefined) removeRunRecord(mountPoint);
  return { stopped: true, holders: [] };
}

/** A mount of ours without a record (another run directory) counts. */
function requireOurs(mountPoint: string): void {
  if (!isOursAt(mountPoint)) throw notOurs(mountPoint);
}

/** Throws EBUSY when ours is there, and something else is mounted over it, which is not ours to take away. */
function isOursAt(mountPoint: string): boolean {
  const mounts = readMountInfo();
  const top = mountAt(mounts, mountPoint);
  if (top !== undefined && isOurs(top)) return true;
  if (!mounts.some((mount) => mount.mountPoint === mountPoint && isOurs(mount))) return false;
  throw coveredError(mountPoint);
}

function isOurs(mount: MountInfo): boolean {
  return isEbbMount(mount) || isTreeMount(mount) || isImageMount(mount);
}

function notOurs(mountPoint: string): EbbError {
  return ebbError('EINVAL', `${mountPoint} is not an ebb mount; ebb status lists them.`);
}

/** Of somebody else, as the kernel tells it: only he, and root, may take it away. */
function ownerElse(mountPoint: string): number | undefined {
  const uid = process.getuid?.();
  const mount = mountAt(readMountInfo(), mountPoint);
  const [, owner] = /(?:^|,)user_id=(\d+)/.exec(mount?.superOptions ?? '') ?? [];
  return uid === 0 || owner === undefined || Number(owner) === uid ? undefined : Number(owner);
}

/** Unmounts by umount(8) as root, by fusermount3(1) else; returns what they complained about. */
function unmountStale(mountPoint: string, lazy: boolean): string | undefined {
  const [program, flags] =
    process.getuid?.() === 0
      ? (['umount', lazy ? ['-l'] : []] as const)
      : (['fusermount3', lazy ? ['-u', '-z'] : ['-u']] as const);
  const done = spawnSync(program, [...flags, '--', mountPoint], { encoding: 'utf8' });
  if (done.status === 0) return undefined;
  return done.error?.message ?? done.stderr.trim().replaceAll('\n', ' ');
}

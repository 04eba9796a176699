/**
 * The other tools that show a web server's directory as files, as Debian ships them, behind one interface: what
 * Ebb is measured against. Each runs in the foreground as our child, with a cache directory of its own.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { killAtExit, killGroup, run } from '../test/support/run.ts';
import { abortConnections, mountEbb } from '../test/support/mount.ts';
import { detachMountsBelow, mountsBelow, temporaryDirectory } from '../test/support/temporary.ts';
import { waitFor } from '../test/support/wait-for.ts';

/** Something mounted that can be measured. */
export interface MountedPeer extends AsyncDisposable {
  readonly name: OriginPeer;
  readonly path: string;
  /** The process that serves; 0 for a native copy. */
  readonly pid: number;
  /** Gives a file's local copy up; absent where the tool cannot. */
  release?(file: string): Promise<void>;
}

/** Who shows a web server's directory; `native`: a copy of it on disk. */
export type OriginPeer = 'native' | 'ebb' | 'httpdirfs' | 'rclone';

export interface PeerPlan {
  /** The origin, ends with `/`. */
  readonly url: string;
  /** The same content as a native directory. */
  readonly native: string;
  /** More options of `ebb mount`. */
  readonly ebbOptions?: readonly string[];
}

/** Debian packages of the rivals. */
export const peerPackages: Readonly<Record<'httpdirfs' | 'rclone', string>> = {
  httpdirfs: 'httpdirfs',
  rclone: 'rclone',
};

const mountTimeoutMs = 20_000;

/** Mounts with an empty cache: everything is cold. */
export async function mountPeer(name: OriginPeer, plan: PeerPlan): Promise<MountedPeer> {
  if (name === 'native') return nativePeer(plan.native);
  if (name === 'ebb') return ebbPeer(plan);
  const directory = await temporaryDirectory(`peer-${name}`);
  const mountPoint = path.join(directory.path, 'mnt');
  const cache = path.join(directory.path, 'cache');
  await mkdir(mountPoint);
  await mkdir(cache);
  const [command, parameters] = commandOf(name, plan.url, mountPoint, cache);
  const log = openSync(path.join(directory.path, 'log'), 'w');
  const child = spawn(command, parameters, {
    detached: true,
    stdio: ['ignore', log, log],
    env: { ...process.env, HOME: directory.path, XDG_CACHE_HOME: cache },
  });
  closeSync(log);
  killAtExit(child);
  child.on('error', () => {
    // The wait below says that nothing was mounted.
  });
  const dispose = async (): Promise<void> => {
    await end(child, mountPoint);
    await directory[Symbol.asyncDispose]();
  };
  try {
    await waitFor(async () => (await mountsBelow(mountPoint)).length > 0, {
      what: `${name} to mount (is the Debian package ${peerPackages[name]} installed?)`,
      timeoutMs: mountTimeoutMs,
    });
  } catch (error) {
    await dispose();
    throw error;
  }
  return { name, path: mountPoint, pid: child.pid ?? 0, [Symbol.asyncDispose]: dispose };
}

function commandOf(
  name: 'httpdirfs' | 'rclone',
  url: string,
  mountPoint: string,
  cache: string,
): readonly [string, readonly string[]] {
  if (name === 'httpdirfs') {
    // Its check of ranges does not understand nginx's answer, and ends the process.
    const options = ['-f', '--no-range-check', '--cache', '--cache-location', cache];
    return ['httpdirfs', [...options, url, mountPoint]];
  }
  const places = [':http:', mountPoint, '--http-url', url, '--cache-dir', cache];
  return ['rclone', ['mount', ...places, '--vfs-cache-mode', 'full', '--read-only']];
}

async function end(child: ChildProcess, mountPoint: string): Promise<void> {
  await run('umount', [mountPoint], { timeoutMs: 10_000 });
  if ((await mountsBelow(mountPoint)).length > 0) await abortConnections(mountPoint);
  await detachMountsBelow(mountPoint);
  const ended = (): boolean => child.exitCode !== null || child.signalCode !== null;
  await waitFor(ended, { what: 'its end', timeoutMs: 3000 }).catch(() => killGroup(child));
}

function nativePeer(directory: string): MountedPeer {
  return { name: 'native', path: directory, pid: 0, [Symbol.asyncDispose]: async () => {} };
}

async function ebbPeer(plan: PeerPlan): Promise<MountedPeer> {
  const mount = await mountEbb({
    remote: plan.url,
    options: ['--file-mode', '0555', ...(plan.ebbOptions ?? [])],
  });
  return {
    name: 'ebb',
    path: mount.path,
    pid: mount.pid,
    // The kernel's RELEASE after the last close comes a moment later: until then the file is in use.
    release: (file) =>
      waitFor(async () => (await mount.ebb(['release', file])).code === 0, {
        what: 'ebb release',
        intervalMs: 200,
      }).then(() => {}),
    [Symbol.asyncDispose]: () => mount[Symbol.asyncDispose](),
  };
}

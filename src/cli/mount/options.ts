/** From the options of `ebb mount` to the `MountOptions` that the daemon gets. */
import path from 'node:path';
import type { Command } from 'commander';
import type { MountOptions } from '../../daemon/start-api.ts';
import {
  cacheSizeOption,
  dropUndefined,
  falseIfNo,
  idMax,
  logLevelOf,
  minFreeBytes,
  optional,
  standbyOption,
} from '../option-values.ts';
import { buildRemoteAccess, defineRemoteOptions } from '../remote-options.ts';
import type { RemoteCliOptions } from '../remote-options.ts';
import { absolutePath } from '../target.ts';
import { parseCount, parseDuration, parseMode, parseSize } from '../units.ts';

export interface MountCliOptions extends RemoteCliOptions {
  readonly foreground?: boolean;
  readonly cacheDir?: string;
  readonly cacheSize?: string;
  readonly minFree?: string;
  readonly ttl?: string;
  readonly fileMode?: string;
  readonly dirMode?: string;
  readonly uid?: string;
  readonly gid?: string;
  readonly passthrough?: boolean;
  readonly standby?: boolean;
  readonly allowOther?: boolean;
  readonly noexec?: boolean;
  readonly newHandles?: boolean;
  readonly unprivileged?: boolean;
  readonly logLevel?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** Declares the options. Options without a default here have the daemon's, named in their text. */
export function defineMountOptions(command: Command): void {
  command
    .argument('<REMOTE>')
    .argument('<MOUNTPOINT>')
    .option(
      '-f, --foreground',
      'Stays in the foreground; the log goes to standard error. Ctrl-C unmounts.',
    )
    .option(
      '--cache-dir <DIR>',
      'Where content is kept. Default /var/cache/ebb/NAME for root, else ~/.cache/ebb/NAME.',
    )
    .option(...cacheSizeOption)
    .option(
      '--min-free <SIZE|PERCENT>',
      'Releases content when the file system of the cache has less free than this, e.g. 10G or 5%. Default: none.',
    )
    .option(
      '--ttl <DURATION>',
      'How long listings and versions are trusted; 0 asks at every open. Default 60s.',
    )
    .option('--file-mode <MODE>', 'Octal mode of files where the remote gives none. Default 0444.')
    .option(
      '--dir-mode <MODE>',
      'Octal mode of directories where the remote gives none. Default 0555.',
    )
    .option('--uid <UID>', 'Owner shown where the remote gives none. Default: yours.')
    .option('--gid <GID>', 'Group shown where the remote gives none. Default: yours.');
  defineRemoteOptions(command);
  command
    .option(
      '--no-passthrough',
      'Serves resident files through the daemon, too (slower; for comparison).',
    )
    .option(
      '--allow-other',
      'Lets other users in; file modes are checked by the kernel. Default for root.',
    )
    .option('--no-allow-other', 'Keeps other users out. Default for all but root.')
    .option('--noexec', 'Programs on the mount cannot be executed. (nosuid and nodev always hold.)')
    .option(
      '--new-handles',
      'Makes a new handle secret: file handles (NFS) and tokens (ebb handle) given out so far become stale.',
    )
    .option(...standbyOption)
    .option('--unprivileged', 'Mounts through fusermount3 even as root.')
    .option('--log-level <LEVEL>', 'debug, info, warn or error. Default info.')
    .option(
      '-n, --dry-run',
      "Checks the options, the remote's form and the mount point; mounts nothing.",
    )
    .option('--json', 'Prints the result as one JSON object: StartResult.')
    .option(
      '-o <OPT>',
      'The same options as fstab writes them: -o ttl=5m,allow_other. ' +
        'Options of mount(8) that mean nothing here are ignored.',
    );
}

/** Builds what the daemon gets. Throws UsageError, or EbbError when a file cannot be read. */
export function buildMountOptions(
  remote: string,
  mountPoint: string,
  options: MountCliOptions,
): MountOptions {
  const size = optional(parseSize);
  const mode = optional(parseMode);
  const count = optional(parseCount);
  const cacheDirectory =
    options.cacheDir === undefined ? undefined : absolutePath(options.cacheDir);
  return dropUndefined<MountOptions>({
    ...buildRemoteAccess(options),
    remote,
    mountPoint,
    cacheDirectory,
    cacheSizeBytes: size(options.cacheSize, '--cache-size'),
    minFreeBytes: minFreeBytes(options.minFree, cacheDirectory ?? defaultCacheParent()),
    ttlMs: optional(parseDuration)(options.ttl, '--ttl'),
    fileMode: mode(options.fileMode, '--file-mode'),
    directoryMode: mode(options.dirMode, '--dir-mode'),
    uid: count(options.uid, '--uid', 0, idMax),
    gid: count(options.gid, '--gid', 0, idMax),
    passthrough: falseIfNo(options.passthrough),
    allowOther: options.allowOther,
    noExec: options.noexec,
    newHandles: options.newHandles,
    unprivileged: options.unprivileged,
    standby: falseIfNo(options.standby),
    logLevel: logLevelOf(options.logLevel),
    foreground: options.foreground,
  });
}

/** Where the daemon makes its caches unless told otherwise (see `MountOptions.cacheDirectory`). */
export function defaultCacheParent(): string {
  if (process.getuid?.() === 0) return '/var/cache/ebb';
  const xdg = process.env['XDG_CACHE_HOME'];
  if (xdg !== undefined && path.isAbsolute(xdg)) return path.join(xdg, 'ebb');
  return path.join(process.env['HOME'] ?? '/', '.cache/ebb');
}

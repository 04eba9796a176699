/** `ebb mount`: check, start the daemon, report. */
import type { StartResult } from '../../daemon/start-api.ts';
import { complain } from '../failure.ts';
import { checkMountPoint, checkNoLoop, checkRemote } from '../mount/checks.ts';
import { expandFstabOptions } from '../mount/fstab-options.ts';
import { buildMountOptions, defaultCacheParent, defineMountOptions } from '../mount/options.ts';
import type { MountCliOptions } from '../mount/options.ts';
import { followForeground, startService } from '../start-service.ts';
import { shellWord, visible } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { plural } from '../units.ts';
import { ExitCode } from '../verb.ts';
import type { Verb } from '../verb.ts';

export const mount: Verb = {
  name: 'mount',
  summary: 'make a remote directory appear as a local one',
  synopsis: ['[OPTION]... REMOTE MOUNTPOINT'],
  description: [
    'Mounts REMOTE, read-only, on the directory MOUNTPOINT. Names appear at once; content arrives when somebody ' +
      'reads it, by the byte range, and stays in the cache. Files that are wholly here are served by the kernel ' +
      'at the speed of the file system that holds the cache.',
    'REMOTE is an http:// or https:// directory (any server with listings: nginx, Apache, lighttpd, Caddy, ...), or ' +
      'the path of a local directory.',
    'As root the mount is made directly and passthrough is available; other users need fusermount3 (package ' +
      'fuse3). See ebb doctor. SIZE is a number with K, M, G, T (powers of 1024); DURATION a number with ms, s, ' +
      'm, h, d.',
    'With a link /usr/local/bin/ebb, mount(8) and fstab work, too: https://example.org/pub/ /mnt/pub fuse.ebb ' +
      'ttl=5m,allow_other,_netdev 0 0',
  ],
  exitCodes: {
    0: 'Mounted (with -f: and unmounted again in good order).',
    1: 'Could not be mounted; standard error says why.',
  },
  examples: [
    { command: 'ebb mount https://deb.debian.org/debian/ /mnt/debian', explanation: 'A mirror.' },
    {
      command: 'ebb mount --cache-size 20G --min-free 10% https://data.example.org/sets/ ~/sets',
      explanation: 'With at most 20 GiB kept here, and a tenth of the disk left free.',
    },
    {
      command: 'ebb mount --user ann --password-file ~/.secret https://example.org/private/ /mnt/p',
      explanation: 'With a password that no other user can see.',
    },
  ],
  prepareArguments: expandFstabOptions,
  define: defineMountOptions,
  run: async (command, terminal) => {
    const [typedRemote = '', typedMountPoint = ''] = command.args;
    const options = command.opts<MountCliOptions>();
    const remote = checkRemote(typedRemote);
    const mountPoint = checkMountPoint(typedMountPoint, (sentence) =>
      terminal.warn(`ebb mount: ${sentence}`),
    );
    const full = buildMountOptions(remote, mountPoint, options);
    checkNoLoop(remote, mountPoint, full.cacheDirectory ?? defaultCacheParent());
    if (options.dryRun === true) {
      terminal.print(`Nothing is wrong so far; nothing was mounted on ${visible(mountPoint)}.`);
      return ExitCode.done;
    }
    const { child, result } = await startService<Extract<StartResult, { ok: true }>>(
      {
        script: 'supervisor/mount-main.ts',
        scriptVariable: 'EBB_DAEMON_MAIN',
        mountPoint,
        foreground: options.foreground === true,
        aim: 'it had mounted anything',
      },
      full,
    );
    const code = report(result, mountPoint, options.json === true, terminal);
    if (!result.ok || child === undefined) return code;
    await terminal.drained();
    return followForeground(child);
  },
};

function report(
  result: StartResult,
  mountPoint: string,
  json: boolean,
  terminal: Terminal,
): ExitCode {
  if (!result.ok) return complain(result, 'ebb mount', json, terminal);
  if (json) {
    terminal.print(JSON.stringify(result));
    return ExitCode.done;
  }
  const { files, directories, run } = result;
  const known =
    files + directories > 0
      ? `: ${plural(files, 'file')}, ${plural(directories, 'directory', 'directories')} known`
      : '';
  terminal.print(
    `Mounted ${visible(run.remote)} at ${visible(mountPoint)}${known}; ` +
      `unmount with: ebb umount ${shellWord(mountPoint)}`,
  );
  return ExitCode.done;
}

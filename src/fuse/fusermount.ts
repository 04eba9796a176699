/**
 * fusermount3(1), the set-user-id helper of the package fuse3: mounts for users, and hands the
 * descriptor over through the socket whose number is in _FUSE_COMMFD.
 */
import { spawn } from 'node:child_process';
import { Errno, errnoMessage } from '../base/errno.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import { receiveFd, socketPair } from '../sys/socket.ts';
import type { ErrnoCode } from '../base/errno.ts';
import type { EbbError } from '../base/errors.ts';
import type { OwnedFd } from '../sys/fd.ts';

const helper = 'fusermount3';
/** It only makes system calls; longer means that it hangs on some other dead mount. */
const helperTimeoutMs = 30_000;
const helperOutputMaxBytes = 16 * 1024;
/** Where the child finds its end of the socket pair. */
const childSocket = 3;

interface HelperResult {
  readonly exitCode: number | null;
  readonly text: string;
}

/** Mounts and returns /dev/fuse. Throws with fusermount3's own words. */
export async function fusermountAttach(
  mountPoint: string,
  options: readonly string[],
): Promise<OwnedFd> {
  const [ours, theirs] = socketPair();
  using socket = ours;
  let result: HelperResult;
  {
    using childEnd = theirs;
    result = await runHelper(['-o', options.join(','), '--', mountPoint], childEnd.fd);
  }
  if (result.exitCode !== 0) throw helperError(`mounting ${mountPoint}`, result);
  const device = receiveFd(socket.fd);
  if (device === undefined) throw ebbError('EIO', `${helper} mounted, but sent no descriptor.`);
  return device;
}

/** Unmounts. EBUSY while somebody uses it, unless `lazy`. */
export async function fusermountDetach(mountPoint: string, lazy: boolean): Promise<void> {
  const flags = lazy ? ['-u', '-z'] : ['-u'];
  const result = await runHelper([...flags, '--', mountPoint], undefined);
  if (result.exitCode !== 0) throw helperError(`unmounting ${mountPoint}`, result);
}

function runHelper(args: readonly string[], socketFd: number | undefined): Promise<HelperResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(helper, args, {
      stdio: ['ignore', 'ignore', 'pipe', ...(socketFd === undefined ? [] : [socketFd])],
      env: { ...process.env, _FUSE_COMMFD: String(childSocket), LC_ALL: 'C' },
      timeout: helperTimeoutMs,
      killSignal: 'SIGKILL',
    });
    let text = '';
    child.stderr?.setEncoding('utf8');
    child.stderr?.on('data', (part: string) => {
      if (text.length < helperOutputMaxBytes) text += part;
    });
    child.on('error', (error) => {
      const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
      reject(
        missing
          ? ebbError('ENOENT', `${helper} is not installed (Debian package fuse3).`)
          : toEbbError(error, 'EIO'),
      );
    });
    child.on('close', (exitCode) => resolve({ exitCode, text: text.trim() }));
  });
}

/** What the helper's strerror text may end with, and what it says without one. */
const likelyCodes: readonly ErrnoCode[] = [
  'EACCES',
  'EPERM',
  'ENOENT',
  'ENOTDIR',
  'EBUSY',
  'ENODEV',
  'EINVAL',
  'ENOTCONN',
  'ENOMEM',
];

function helperError(doing: string, { exitCode, text }: HelperResult): EbbError {
  if (exitCode === null) return ebbError('ETIMEDOUT', `${helper} hung while ${doing}.`);
  const code = likelyCodes.find((candidate) => text.endsWith(errnoMessage(Errno[candidate])));
  const why = text === '' ? `exit code ${exitCode}` : text;
  return ebbError(code ?? 'EPERM', `${doing} failed: ${why}`);
}

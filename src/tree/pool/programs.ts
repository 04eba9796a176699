/** Other programs that do what no system call does. */
import { execFile } from 'node:child_process';

import { ebbError } from '../../base/errors.ts';

const timeoutMs = 120_000;
const outputMaxBytes = 1024 * 1024;

/** The Debian packages that have them; other distributions name them alike. */
const packages: Readonly<Record<string, string>> = {
  'mkfs.xfs': 'xfsprogs',
  xfs_growfs: 'xfsprogs',
  losetup: 'mount',
  mount: 'mount',
  umount: 'mount',
};

/**
 * Runs a program to its end; resolves to what it printed. Rejects with what it complained about (EIO, or EBUSY where it
 * says so), ENOENT with the package to install, ETIMEDOUT after two minutes.
 */
export function runProgram(name: string, ...args: readonly string[]): Promise<string> {
  const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
  return new Promise((resolve, reject) => {
    execFile(
      name,
      args,
      { env, timeout: timeoutMs, maxBuffer: outputMaxBytes, encoding: 'utf8' },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(programError(name, error, stderr.trim()));
      },
    );
  });
}

function programError(
  name: string,
  error: Error & { readonly code?: unknown; readonly killed?: boolean },
  said: string,
): Error {
  const options = { cause: error, retryable: false };
  if (error.code === 'ENOENT') {
    const from = packages[name] ?? name;
    return ebbError('ENOENT', `The program ${name} is missing: install ${from}.`, options);
  }
  if (error.killed === true) return ebbError('ETIMEDOUT', `${name} did not end.`, options);
  const isBusy = /busy/i.test(said);
  return ebbError(isBusy ? 'EBUSY' : 'EIO', `${name} failed: ${said || error.message}`, options);
}

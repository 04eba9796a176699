/** What the file system of the cache can do, tried out with a file of our own that is removed again. */
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { toEbbError } from '../../base/errors.ts';
import { OpenFlag, openFd } from '../../sys/fd.ts';
import { handleOf, openByHandle } from '../../sys/handle.ts';
import { dropLease, tryLease } from '../../sys/lease.ts';
import { Capability, hasCapability } from '../../sys/process.ts';
import { FilesystemMagic, filesystemStatus } from '../../sys/statfs.ts';
import { getXattr, setXattr } from '../../sys/xattr.ts';
import type { DoctorCheck } from '../helper-api.ts';

const freeWantedBytes = 1024 ** 3;

/** File systems that serve well as a cache, and what is wrong with the others. */
const verdicts: ReadonlyMap<number, { readonly name: string; readonly advice?: string }> = new Map([
  [FilesystemMagic.ext4, { name: 'ext4' }],
  [FilesystemMagic.xfs, { name: 'xfs' }],
  [FilesystemMagic.btrfs, { name: 'btrfs' }],
  [FilesystemMagic.f2fs, { name: 'f2fs' }],
  [FilesystemMagic.zfs, { name: 'zfs', advice: 'Not tried by us; ext4, xfs or btrfs are.' }],
  [
    FilesystemMagic.tmpfs,
    { name: 'tmpfs', advice: 'The cache lives in memory and is gone after a reboot: use a disk.' },
  ],
  [
    FilesystemMagic.overlayfs,
    {
      name: 'overlayfs',
      advice:
        'The kernel refuses passthrough to files of an overlay (a container image?): reads go through the daemon. ' +
        'Give the container a volume and name it with --cache-dir.',
    },
  ],
  [
    FilesystemMagic.nfs,
    {
      name: 'nfs',
      advice: 'A cache over the network is slow and has no leases: use a local disk (--cache-dir).',
    },
  ],
  [
    FilesystemMagic.fuse,
    {
      name: 'fuse',
      advice: 'A cache on a FUSE file system is slow and may deadlock: use a local disk.',
    },
  ],
]);

/** The checks for a cache that is, or would be, in `directory`. Never throws. */
export function cacheChecks(directory: string): DoctorCheck[] {
  const existing = existingAncestor(directory);
  const checks = [checkType(existing, directory), checkFree(existing)];
  let scratch: string;
  try {
    scratch = mkdtempSync(path.join(existing, '.ebb-doctor-'));
  } catch (error) {
    const advice = `The cache cannot be written (${toEbbError(error).message}): use --cache-dir DIR.`;
    return [...checks, { name: 'cache writable', outcome: 'fail', found: existing, advice }];
  }
  try {
    const file = path.join(scratch, 'probe');
    writeFileSync(file, 'probe');
    return [
      ...checks,
      { name: 'cache writable', outcome: 'ok', found: existing },
      attempt('extended attributes', 'user.* and trusted.* work', tryXattr, file, {
        outcome: 'fail',
        advice:
          'Content could not be marked with what it is: use ext4, xfs or btrfs for the cache (--cache-dir).',
      }),
      attempt('file handles', 'files can be found by handle', tryHandle, file, {
        outcome: 'fail',
        advice:
          'Content is known by its file handle: use ext4, xfs or btrfs for the cache (--cache-dir).',
      }),
      attempt('leases', 'use of a file can be noticed', tryFileLease, file, {
        outcome: 'warn',
        advice: 'Without leases nothing can be released safely: the cache only grows.',
      }),
    ];
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function existingAncestor(directory: string): string {
  let current = path.resolve(directory);
  while (current !== '/' && statSync(current, { throwIfNoEntry: false }) === undefined) {
    current = path.dirname(current);
  }
  return current;
}

function checkType(existing: string, directory: string): DoctorCheck {
  const { magic, readOnly } = filesystemStatus(existing);
  const name = 'cache';
  const verdict = verdicts.get(magic) ?? {
    name: `type 0x${magic.toString(16)}`,
    advice: 'Not known to us: ext4, xfs and btrfs are tried.',
  };
  const found = `${directory} on ${verdict.name}`;
  if (readOnly) {
    const advice = 'It is mounted read-only: use --cache-dir DIR on another file system.';
    return { name, outcome: 'fail', found, advice };
  }
  const { advice } = verdict;
  return advice === undefined
    ? { name, outcome: 'ok', found }
    : { name, outcome: 'warn', found, advice };
}

function checkFree(existing: string): DoctorCheck {
  const { availableBytes, totalBytes, filesFree, files } = filesystemStatus(existing);
  const gib = (bytes: number): string => `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
  const found = `${gib(availableBytes)} of ${gib(totalBytes)}`;
  const name = 'free space';
  if (files > 0 && filesFree < 10_000) {
    const advice = 'Hardly any inodes are left: each file of the cache needs one.';
    return { name, outcome: 'warn', found: `${found}, ${filesFree} inodes`, advice };
  }
  if (availableBytes >= freeWantedBytes) return { name, outcome: 'ok', found };
  const advice =
    'Recalls end in ENOSPC when it is full: make room, or use --cache-dir and --cache-size.';
  return { name, outcome: 'warn', found, advice };
}

function attempt(
  name: string,
  found: string,
  work: (file: string) => string | undefined,
  file: string,
  otherwise: { readonly outcome: 'warn' | 'fail'; readonly advice: string },
): DoctorCheck {
  try {
    return { name, outcome: 'ok', found: work(file) ?? found };
  } catch (error) {
    return { name, found: toEbbError(error).message, ...otherwise };
  }
}

function tryXattr(file: string): string {
  const privileged = hasCapability(Capability.sysAdmin);
  const name = privileged ? 'trusted.ebb.probe' : 'user.ebb.probe';
  setXattr(file, name, Buffer.from('probe'));
  const back = getXattr(file, name);
  if (back === undefined || Buffer.from(back).toString() !== 'probe') {
    throw new Error(`${name} was set but cannot be read back`);
  }
  return `${privileged ? 'trusted' : 'user'}.* can be set`;
}

function tryHandle(file: string): string {
  const { handle } = handleOf(file);
  if (!hasCapability(Capability.dacReadSearch)) return 'files have handles (opened by path here)';
  using directory = openFd(path.dirname(file), OpenFlag.directory);
  using opened = openByHandle(directory.fd, handle, 0);
  if (opened.fd < 0) throw new Error('the handle cannot be opened');
  return 'files can be opened by handle';
}

function tryFileLease(file: string): undefined {
  using descriptor = openFd(file, 0);
  if (!tryLease(descriptor.fd, 'write')) throw new Error('refused');
  dropLease(descriptor.fd);
}

/**
 * Entry point of the checks before `ebb attach`, a process of its own, since they need system calls that the CLI does
 * not load: `node attach-check.ts '{"tree": ..., "remote": ..., "stateDirectory": ...}'`. Prints one `AttachCheck`.
 */
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as v from 'valibot';
import { checkAttachable, poolHint } from '../attach/preconditions.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import { readMountInfo } from '../base/mount-info.ts';
import { isRunning, readRunRecords, runDirectory } from '../base/run-directory.ts';
import { probeKernel, realKernelAnswers } from '../fanotify/probe.ts';
import type { KernelAnswers } from '../fanotify/probe.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { writeSmallAt } from '../sys/file-io.ts';
import { cloneRange } from '../sys/ioctl.ts';
import type { AttachCheck } from './helper-api.ts';
import { attachDefaults } from './attach-options.ts';
import { absolutePath, parseLine, remoteIdentity } from './options.ts';

const schema = v.strictObject({
  tree: absolutePath,
  remote: v.optional(v.string()),
  stateDirectory: v.optional(absolutePath, attachDefaults.stateDirectory),
});

/** Never throws. `answers`: what the kernel says; tests have other kernels. */
export async function attachCheck(
  line: string,
  answers: KernelAnswers = realKernelAnswers,
): Promise<AttachCheck> {
  try {
    const { tree, remote, stateDirectory } = parseLine(schema, line);
    const identity = remote === undefined ? undefined : remoteIdentity(remote);
    const { isShown, ...found } = checkAttachable(
      { tree, remote: identity, stateDirectory },
      {
        kernelRelease: answers.release(),
        hasSysAdmin: answers.isPrivileged(),
        mounts: readMountInfo(),
        running: readRunRecords().filter(isRunning),
        needed: [process.execPath, import.meta.dirname, tmpdir(), runDirectory(), ...swapFiles()],
      },
    );
    // What is shown already was tried before, and who denies everything there would deny this, too.
    if (!isShown) await checkKernel(tree, answers);
    // What is a tree already has stubs there.
    if (found.remote === undefined && found.fileSystem !== 'ext4') requireReflinks(tree);
    return { ok: true, ...found };
  } catch (thrown) {
    const { code, message } = toEbbError(thrown);
    return { ok: false, error: message, code, exitCode: 3 };
  }
}

/** Versions say little: what the kernel does with a file of that file system is tried. Throws EOPNOTSUPP. */
async function checkKernel(tree: string, answers: KernelAnswers): Promise<void> {
  const { findings } = await probeKernel(tree, answers);
  const missing = findings.find(({ answer }) => answer !== 'yes');
  if (missing === undefined) return;
  throw ebbError('EOPNOTSUPP', `${missing.sentence} ebb mount works without.`);
}

const clonedBytes = 65_536;

/** Tried with files that never have a name. Throws EOPNOTSUPP. */
function requireReflinks(tree: string): void {
  const make = (): OwnedFd => openFd(tree, OpenFlag.tmpfile | OpenFlag.rdwr, 0o600);
  using source = make();
  using target = make();
  try {
    writeSmallAt(source.fd, new Uint8Array(clonedBytes), 0);
    cloneRange(source.fd, 0, clonedBytes, target.fd, 0);
  } catch (error) {
    // A full file system tells nothing.
    if (toEbbError(error).code !== 'EOPNOTSUPP') return;
    throw ebbError(
      'EOPNOTSUPP',
      `${tree} is on a file system without reflinks (mkfs.xfs -m reflink=1 makes one with them); ${poolHint}`,
    );
  }
}

/** proc_swaps(5): the first column, with octal escapes for spaces; partitions are no files of a tree. */
function swapFiles(): string[] {
  const [, ...lines] = readFileSync('/proc/swaps', 'utf8').trimEnd().split('\n');
  return lines
    .filter((line) => /^\S+\s+file\b/.test(line))
    .map((line) => (line.split(/\s+/)[0] ?? '').replaceAll(String.raw`\040`, ' '));
}

if (import.meta.main) {
  process.stdout.write(`${JSON.stringify(await attachCheck(process.argv[2] ?? ''))}\n`);
}

/**
 * Entry point of the checks before `ebb attach`, a process of its own, since they need system calls that the CLI does
 * not load: `node attach-check.ts '{"tree": ..., "remote": ..., "stateDirectory": ...}'`. Prints one `AttachCheck`.
 */
import { readFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import * as v from 'valibot';
import { checkAttachable } from '../attach/preconditions.ts';
import { toEbbError } from '../base/errors.ts';
import { readMountInfo } from '../base/mount-info.ts';
import { isRunning, readRunRecords, runDirectory } from '../base/run-directory.ts';
import { Capability, hasCapability } from '../sys/process.ts';
import type { AttachCheck } from './helper-api.ts';
import { attachDefaults } from './attach-options.ts';
import { absolutePath, parseLine, remoteIdentity } from './options.ts';

const schema = v.strictObject({
  tree: absolutePath,
  remote: v.optional(v.string()),
  stateDirectory: v.optional(absolutePath, attachDefaults.stateDirectory),
});

/** Never throws. */
export function attachCheck(line: string): AttachCheck {
  try {
    const { tree, remote, stateDirectory } = parseLine(schema, line);
    const identity = remote === undefined ? undefined : remoteIdentity(remote);
    const found = checkAttachable(
      { tree, remote: identity, stateDirectory },
      {
        kernelRelease: release(),
        hasSysAdmin: hasCapability(Capability.sysAdmin),
        mounts: readMountInfo(),
        running: readRunRecords().filter(isRunning),
        needed: [process.execPath, import.meta.dirname, tmpdir(), runDirectory(), ...swapFiles()],
      },
    );
    return { ok: true, ...found };
  } catch (thrown) {
    const { code, message } = toEbbError(thrown);
    return { ok: false, error: message, code, exitCode: 3 };
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
  process.stdout.write(`${JSON.stringify(attachCheck(process.argv[2] ?? ''))}\n`);
}

/** What the tests of src/sys share: temporary directories and small file systems in loop images. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync, mkdirSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { loopMountSync } from '../support/loop-mount.ts';

/** A directory that disappears with its scope. */
export class TemporaryDirectory implements Disposable {
  readonly path = mkdtempSync(path.join(os.tmpdir(), 'ebb-sys-'));

  join(name: string): string {
    return path.join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

const makers = {
  ext4: { program: 'mkfs.ext4', arguments: ['-q', '-F'], sizeMib: 16, debian: 'e2fsprogs' },
  xfs: { program: 'mkfs.xfs', arguments: ['-q', '-f'], sizeMib: 320, debian: 'xfsprogs' },
  btrfs: { program: 'mkfs.btrfs', arguments: ['-q', '-f'], sizeMib: 128, debian: 'btrfs-progs' },
} as const;

/** A small file system of its own, mounted from a sparse image. Needs root. */
export class LoopFilesystem implements Disposable {
  readonly #directory = new TemporaryDirectory();
  readonly path = this.#directory.join('mnt');

  constructor(type: keyof typeof makers) {
    const { program, arguments: options, sizeMib, debian } = makers[type];
    const image = this.#directory.join('image');
    writeFileSync(image, '');
    truncateSync(image, sizeMib * 1024 * 1024);
    mkdirSync(this.path);
    try {
      run(program, [...options, image], `Install the Debian package ${debian}.`);
      loopMountSync(image, this.path, { type });
    } catch (error) {
      this.#directory[Symbol.dispose]();
      throw error;
    }
  }

  join(name: string): string {
    return path.join(this.path, name);
  }

  [Symbol.dispose](): void {
    // Lazily: whatever a failed test left open must not keep it. The loop device goes with it.
    spawnSync('umount', ['-l', this.path]);
    this.#directory[Symbol.dispose]();
  }
}

function run(program: string, options: readonly string[], hint: string): void {
  const { status, error, stderr } = spawnSync(program, options, { encoding: 'utf8' });
  if (status === 0) return;
  throw new Error(`${program} failed: ${error?.message ?? stderr}. ${hint}`);
}

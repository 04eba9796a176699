/** Files of an image as backings: what they take of this machine, and where that is not there. Needs root. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readdirSync, readlinkSync, writeSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Errno } from '../../src/base/errno.ts';
import { toEbbError } from '../../src/base/errors.ts';
import { Backings, findMapDirectory } from '../../src/image/broker/backings.ts';
import type { BackingsOptions } from '../../src/image/broker/backings.ts';
import type { MapRequest } from '../../src/image/messages.ts';
import { patternBytes } from '../support/pattern.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';

const mib = 1024 * 1024;
const imageBytes = mib;
const area = { blockBytes: 4096, startBytes: 0, endBytes: imageBytes };

/** A file that begins with a hole of one block: its map has 8 bytes for each block. */
function fileOf(inode: number, sizeBytes: number): MapRequest {
  const extents = [{ fileOffsetBytes: 4096, imageOffsetBytes: 8192, lengthBytes: 4096 }];
  return { inode, sizeBytes, extents };
}

interface Parts extends Disposable {
  readonly backings: Backings;
}

/** No FUSE connection: what passes all checks is ENOTTY. */
function start(imageFd: number, options: BackingsOptions): Parts {
  const device = openSync('/dev/null', 'r+');
  const backings = Backings.tryStart(device, imageFd, area, options);
  assert.ok(backings !== undefined);
  return {
    backings,
    [Symbol.dispose]: () => {
      backings[Symbol.dispose]();
      closeSync(device);
    },
  };
}

async function withImage(act: (imageFd: number, directory: string) => unknown): Promise<void> {
  await using directory = await temporaryDirectory('backings');
  const writer = openSync(path.join(directory.path, 'image'), 'w');
  writeSync(writer, patternBytes(5, imageBytes));
  closeSync(writer);
  const imageFd = openSync(path.join(directory.path, 'image'), 'r');
  try {
    await act(imageFd, directory.path);
  } finally {
    closeSync(imageFd);
  }
}

/** Descriptors of files in maps: each keeps its map on the disk. */
function mapsHeld(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === '/f';
    } catch {
      return false;
    }
  }).length;
}

test('maps take no more of the disk than they may: older ones go, what is too large is refused', async () => {
  await withImage((imageFd, directory) => {
    const before = mapsHeld();
    {
      using parts = start(imageFd, { directory, recall: undefined, mapsMaxBytes: 5 * mib });
      for (let inode = 1; inode <= 6; inode += 1) {
        assert.equal(parts.backings.open(fileOf(inode, 1024 * mib)), -Errno.ENOTTY);
      }
      assert.equal(mapsHeld() - before, 2, 'of 2 MiB each');
      assert.equal(parts.backings.open(fileOf(7, 4096 * mib)), -Errno.ENOSPC);
      assert.equal(parts.backings.open(fileOf(8, 64 * 1024 * mib)), -Errno.EFBIG);
    }
    assert.equal(mapsHeld(), before);
  });
});

function fill(file: string): void {
  const writer = openSync(file, 'w');
  try {
    for (const size of [mib, 4096, 1]) {
      try {
        for (;;) writeSync(writer, new Uint8Array(size));
      } catch (error) {
        assert.equal(toEbbError(error).code, 'ENOSPC');
      }
    }
  } finally {
    closeSync(writer);
  }
}

test('a map that has no room on the disk is an errno, and no other file suffers', async () => {
  await using full = await loopFilesystem({ type: 'ext4', sizeBytes: 16 * mib });
  fill(path.join(full.path, 'filler'));
  await withImage((imageFd, directory) => {
    using parts = start(imageFd, { directory: full.path, recall: undefined });
    assert.equal(parts.backings.open(fileOf(1, 1024 * mib)), -Errno.ENOSPC);
    assert.equal(findMapDirectory(imageFd, area, [full.path, directory]), directory);
    assert.equal(findMapDirectory(imageFd, area, [full.path]), undefined);
  });
});

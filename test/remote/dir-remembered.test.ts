/** An origin whose attributes the kernel keeps for a while (NFS, CIFS, FUSE): bytes of now are not those of then. */
import assert from 'node:assert/strict';
import { statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { readAll } from '../conformance/collect.ts';
import { mountPointIn, ServerProcess } from '../fuse/server.ts';
import { patternBytes } from '../support/pattern.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const asRoot = { skip: process.getuid?.() === 0 ? false : 'needs root' };
const sizeBytes = 100_000;
const half = sizeBytes / 2;

test(
  'a file that changes while the kernel has its old attributes is not read as a mix, and is asked about',
  asRoot,
  async () => {
    await using directory = await temporaryDirectory('remembered');
    const backingPath = path.join(directory.path, 'backing');
    const mountPoint = await mountPointIn(directory);
    const contents = [1, 2].map((seed) => Buffer.from(patternBytes(seed, sizeBytes)));
    writeFileSync(backingPath, contents[0] as Buffer);
    await using _server = await ServerProcess.start({
      module: './remembering-filesystem.ts',
      mountPoint,
      workerData: { backingPath },
    });
    const remote = await openDirectoryRemote(mountPoint);
    const { signal } = new AbortController();
    const { version } = await remote.stat('f', { signal });
    const front = await readAll(remote, 'f', { lengthBytes: half, version });
    assert.ok(contents[0]?.subarray(0, half).equals(front.bytes));
    const shown = statSync(path.join(mountPoint, 'f'), { bigint: true });
    writeFileSync(backingPath, contents[1] as Buffer);
    assert.equal(
      statSync(path.join(mountPoint, 'f'), { bigint: true }).mtimeNs,
      shown.mtimeNs,
      'the kernel has not heard of it',
    );
    await assert.rejects(readAll(remote, 'f', { offsetBytes: half, lengthBytes: half, version }), {
      code: 'ESTALE',
    });
    writeFileSync(backingPath, contents[0] as Buffer);
    const now = await remote.stat('f', { signal });
    assert.notEqual(now.version, version);
    const again = await readAll(remote, 'f', { version: now.version });
    assert.ok(contents[0]?.equals(again.bytes));
    await remote.close();
  },
);

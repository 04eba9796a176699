/** Release of stubs (invariant I6) on real file systems, with other processes that use the file. */
import assert from 'node:assert/strict';
import type { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { StubChange } from '../../../src/base/stub-facts.ts';
import { Errno } from '../../../src/base/errno.ts';
import { ebbError } from '../../../src/base/errors.ts';
import { OpenFlag, openFd } from '../../../src/sys/fd.ts';
import { punchHole } from '../../../src/sys/fallocate.ts';
import { Seek, pread, seek } from '../../../src/sys/io.ts';
import { fileStatus, setFileTimes } from '../../../src/sys/stat.ts';
import { releaseBatchMax } from '../../../src/tree/release.ts';
import type { ReleaseRequest, ReleaseResult } from '../../../src/tree/release.ts';
import { truncateFile } from '../../../src/tree/truncate.ts';
import { isPoison } from '../../../src/tree/stubs/poison.ts';
import type { StubFile } from '../../../src/tree/stubs/stub-store.ts';
import { sourceBytes } from '../support/cache.ts';
import { hold, openerThatWaits, race } from '../support/holding.ts';
import { imageTypes, newTree, openStubs, recall, stubMtime } from '../support/stubs.ts';
import type { TestStubs } from '../support/stubs.ts';

const sizeBytes = 65_000;

const request: ReleaseRequest<StubFile> = {
  prove: ({ version, sizeBytes }) => Promise.resolve({ version, sizeBytes }),
  isBusy: () => false,
};

async function release(
  stubs: TestStubs,
  file: StubFile,
  change: Partial<ReleaseRequest<StubFile>> = {},
): Promise<ReleaseResult> {
  const [result] = await stubs.store.release([file], { ...request, ...change });
  assert.ok(result);
  return result;
}

function refusalOf(result: ReleaseResult): string | undefined {
  return result.released ? undefined : result.refusal;
}

function assertStillHere(stubs: TestStubs, file: StubFile, name: string): void {
  assert.deepEqual(new Uint8Array(readFileSync(name)), sourceBytes(0, sizeBytes));
  assert.equal(file.residency.complete, true);
  assert.equal(stubs.catalog.get(file.id)?.complete, true);
}

function assertIsStub(stubs: TestStubs, file: StubFile, name: string): void {
  const bytes = readFileSync(name);
  assert.equal(bytes.length, sizeBytes);
  assert.ok(stubs.store.hasPoison ? isPoison(bytes, 0) : bytes.every((byte) => byte === 0));
  assert.equal(file.residency.residentChunks, 0);
  assert.equal(stubs.catalog.get(file.id)?.residentBytes, 0);
}

test('where the file system cannot keep the time of the remote, its own is known: the file is released', async () => {
  const late = { seconds: 2 ** 34, nanoseconds: 5 };
  for (const mkfsArguments of [['-I', '128'], []]) {
    using tree = newTree('ext4', mkfsArguments);
    using stubs = openStubs(tree);
    for (const [name, mtime] of [
      ['f', stubMtime],
      ['late', late],
    ] as const) {
      const file = stubs.add(name, sizeBytes, { mtime });
      const kept = fileStatus(path.join(tree.data, name)).mtime;
      assert.deepEqual(file.mtime, kept);
      assert.equal(stubs.store.unchanged(file), true);
      await recall(file);
      assert.equal(refusalOf(await release(stubs, file)), undefined);
      assertIsStub(stubs, file, path.join(tree.data, name));
    }
  }
});

for (const type of imageTypes) {
  describe(`release of stubs on ${type}`, { concurrency: false }, () => {
    test('is refused by the last one who is asked, and nothing is lost', async () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const file = stubs.add('f', sizeBytes);
      await recall(file);
      for (const [code, refusal] of [
        ['EBUSY', 'opened meanwhile'],
        ['EIO', 'failed'],
      ] as const) {
        const beforeFreeing = (): void => {
          throw ebbError(code, 'No.');
        };
        assert.equal(refusalOf(await release(stubs, file, { beforeFreeing })), refusal);
        assertStillHere(stubs, file, path.join(tree.data, 'f'));
      }
    });

    test('refuses what was cut under the lease, as the NFS server does it, up to the last moment', async () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const file = stubs.add('f', sizeBytes);
      await recall(file);
      const beforeFreeing = (fd: number): void => truncateFile(fd, 5_000);
      assert.equal(refusalOf(await release(stubs, file, { beforeFreeing })), 'changed');
      const left = readFileSync(path.join(tree.data, 'f'));
      assert.deepEqual(new Uint8Array(left), sourceBytes(0, 5_000));
      assert.equal(stubs.catalog.get(file.id)?.complete, true);
    });

    test('refuses what its mark alone says to be the user’s: the catalog has not taken it', async () => {
      using tree = newTree(type);
      const name = path.join(tree.data, 'f');
      let id = 0;
      {
        using stubs = openStubs(tree);
        const { store, catalog } = stubs;
        const file = stubs.add('f', sizeBytes);
        id = file.id;
        await recall(file);
        await store.flush();
        writeFileSync(name, 'mine!', { flag: 'r+' });
        using fd = openFd(name, OpenFlag.rdwr);
        setFileTimes(fd.fd, undefined, file.mtime);
        catalog.setChange = () => {
          throw ebbError('ENOSPC', 'The disk of the catalog is full.');
        };
        await assert.rejects(store.setChange(file, StubChange.dirty));
      }
      using stubs = openStubs(tree);
      const file = stubs.store.get(id);
      assert.ok(file !== undefined && file.change === StubChange.clean);
      assert.equal(refusalOf(await release(stubs, file)), 'failed');
      assert.equal(readFileSync(name, 'utf8').slice(0, 5), 'mine!');
      assert.equal(stubs.catalog.get(id)?.complete, true);
    });

    test('leaves a stub, mtime (on xfs ctime) alone; the content can come back', async () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const name = path.join(tree.data, 'f');
      const file = stubs.add('f', sizeBytes);
      const { ctime } = fileStatus(name);
      for (const firstChunk of [0, 5]) {
        await recall(file, firstChunk);
        await stubs.store.flush();
        const residentBytes = file.residency.residentBytes;
        let asked = 0;
        const result = await release(stubs, file, {
          beforeFreeing: (fd) => {
            asked += 1;
            assert.equal(
              stubs.catalog.get(file.id)?.residentBytes,
              residentBytes,
              'still recorded',
            );
            const here = new Uint8Array(residentBytes);
            assert.equal(pread(fd, here, firstChunk * 4_096), residentBytes);
            const expected = sourceBytes(firstChunk * 4_096, residentBytes);
            assert.deepEqual(here, expected, 'nothing is gone yet');
          },
        });
        assert.deepEqual(result, { released: true, freedBytes: residentBytes });
        assert.equal(asked, 1);
        assertIsStub(stubs, file, name);
        assert.deepEqual(fileStatus(name).mtime, stubMtime);
        if (type === 'xfs') assert.deepEqual(fileStatus(name).ctime, ctime);
        if (type === 'ext4') {
          using fd = openFd(name, OpenFlag.rdonly);
          assert.equal(seek(fd.fd, 0, Seek.data), -Errno.ENXIO, 'the last block is a hole, too');
        }
        assert.equal(stubs.store.unchanged(file), true);
      }
      await recall(file);
      await stubs.store.flush();
      assertStillHere(stubs, file, name);
    });

    // Without poison it is one call to the kernel, which has no half.
    if (type !== 'ext4') {
      test('that fails half-way leaves mtime alone, and claims nothing', async () => {
        using tree = newTree(type);
        using stubs = openStubs(tree);
        const { store, catalog } = stubs;
        const name = path.join(tree.data, 'f');
        const file = stubs.add('f', sizeBytes);
        await recall(file);
        const { poison } = store;
        assert.ok(poison);
        const cover = poison.cover.bind(poison);
        poison.cover = (fd) => {
          cover(fd, 4_096);
          throw ebbError('ENOSPC', 'No room for more.');
        };
        assert.equal(refusalOf(await release(stubs, file)), 'failed');
        assert.deepEqual(fileStatus(name).mtime, stubMtime);
        assert.equal(catalog.get(file.id)?.residentBytes, 0);
        poison.cover = cover;
        await recall(file);
        await store.flush();
        assertStillHere(stubs, file, name);
        assert.equal((await release(stubs, file)).released, true, 'it does not look changed');
      });
    }

    for (const action of ['open', 'map'] as const) {
      test(`a stub is not released while another process has it ${action === 'map' ? 'mapped' : action}`, async () => {
        using tree = newTree(type);
        using stubs = openStubs(tree);
        const name = path.join(tree.data, 'f');
        const file = stubs.add('f', sizeBytes);
        await recall(file);
        {
          await using _holder = await hold(action, name);
          assert.equal(refusalOf(await release(stubs, file)), 'open');
          assertStillHere(stubs, file, name);
        }
        assert.equal((await release(stubs, file)).released, true, 'granted once nobody uses it');
      });
    }
  });
}

describe('release of stubs', { concurrency: false }, () => {
  const refusals: readonly [string, string, (stubs: TestStubs, file: StubFile) => unknown][] = [
    ['pinned', 'pinned', ({ store }, file) => store.setPinned(file, true)],
    ['a writer was let in', 'changed', ({ store }, file) => store.setChange(file, 1)],
    ['dirty', 'changed', ({ store }, file) => store.setChange(file, 3)],
    ['forgotten', 'failed', ({ store }, file) => store.forget([file.id])],
  ];
  for (const [what, refusal, prepare] of refusals) {
    test(`refuses: ${what}`, async () => {
      using tree = newTree('xfs');
      using stubs = openStubs(tree);
      const name = path.join(tree.data, 'f');
      const file = stubs.add('f', sizeBytes);
      await recall(file);
      await stubs.store.flush();
      await prepare(stubs, file);
      assert.equal(refusalOf(await release(stubs, file)), refusal);
      assert.deepEqual(new Uint8Array(readFileSync(name)), sourceBytes(0, sizeBytes));
    });
  }

  const outside: readonly [string, (name: string) => void][] = [
    ['has another mtime', (name) => utimesSync(name, 0, 0)],
    ['was made longer', (name) => appendFileSync(name, 'x')],
  ];
  for (const [what, change] of outside) {
    test(`refuses what ${what} past us`, async () => {
      using tree = newTree('btrfs');
      using stubs = openStubs(tree);
      const file = stubs.add('f', sizeBytes);
      await recall(file);
      await stubs.store.flush();
      change(path.join(tree.data, 'f'));
      assert.equal(refusalOf(await release(stubs, file)), 'changed');
      const bytes = readFileSync(path.join(tree.data, 'f')).subarray(0, sizeBytes);
      assert.deepEqual(new Uint8Array(bytes), sourceBytes(0, sizeBytes));
    });
  }

  test('a batch: one transaction for many, each refusal alone, results in order', async () => {
    using tree = newTree('btrfs');
    using stubs = openStubs(tree);
    const files: StubFile[] = [];
    for (let index = 0; index < releaseBatchMax + 20; index += 1) {
      const file = stubs.add(`f${index}`, 5_000);
      await recall(file);
      files.push(file);
    }
    await stubs.store.flush();
    const [gone, pinned, open] = [3, 7, 11].map((index) => files[index] as StubFile);
    assert.ok(gone && pinned && open);
    stubs.store.setPinned(pinned, true);
    const original = stubs.catalog.commitResidency.bind(stubs.catalog);
    const commits: number[] = [];
    stubs.catalog.commitResidency = (rows) => {
      commits.push(rows.length);
      original(rows);
    };
    await using _holder = await hold('open', path.join(tree.data, 'f11'));
    const results = await stubs.store.release(files, {
      ...request,
      prove: (file) =>
        file === gone ? Promise.reject(ebbError('ENOENT', 'gone')) : request.prove(file),
    });
    assert.deepEqual(commits, [releaseBatchMax - 3, 20]);
    assert.equal(results.length, files.length);
    const refused = results.flatMap((result, index) => (result.released ? [] : [index]));
    assert.deepEqual(refused, [3, 7, 11]);
    const refusals = [3, 7, 11].map((index) => refusalOf(results[index] as ReleaseResult));
    assert.deepEqual(refusals, ['not proven', 'pinned', 'open']);
    for (const index of [0, 3, 7, 11, releaseBatchMax, releaseBatchMax + 19]) {
      const bytes = readFileSync(path.join(tree.data, `f${index}`));
      if (refused.includes(index)) assert.deepEqual(new Uint8Array(bytes), sourceBytes(0, 5_000));
      else assert.ok(isPoison(bytes, 0));
    }
  });

  test('an opener who comes while the record is written keeps his file, and the others go', async () => {
    using tree = newTree('xfs');
    using stubs = openStubs(tree);
    const names = ['a', 'b', 'c'].map((name) => path.join(tree.data, name));
    const files = ['a', 'b', 'c'].map((name) => stubs.add(name, sizeBytes));
    for (const file of files) await recall(file);
    await stubs.store.flush();
    let opener: ReturnType<typeof spawn> | undefined;
    const original = stubs.catalog.commitResidency.bind(stubs.catalog);
    stubs.catalog.commitResidency = (rows) => {
      opener ??= openerThatWaits(names[1] ?? '');
      original(rows);
    };
    try {
      const results = await stubs.store.release(files, request);
      assert.deepEqual(
        results.map((result) => refusalOf(result)),
        [undefined, 'opened meanwhile', undefined],
      );
      assertStillHere(stubs, files[1] as StubFile, names[1] ?? '');
      assertIsStub(stubs, files[0] as StubFile, names[0] ?? '');
      assertIsStub(stubs, files[2] as StubFile, names[2] ?? '');
    } finally {
      const exited = opener && once(opener, 'exit');
      opener?.kill('SIGKILL');
      await exited;
    }
  });

  test('a catalog that refuses: everything is as before', async () => {
    using tree = newTree('ext4');
    using stubs = openStubs(tree);
    const name = path.join(tree.data, 'f');
    const file = stubs.add('f', sizeBytes);
    await recall(file);
    await stubs.store.flush();
    const original = stubs.catalog.commitResidency.bind(stubs.catalog);
    stubs.catalog.commitResidency = () => {
      throw ebbError('ENOSPC', 'full');
    };
    assert.equal(refusalOf(await release(stubs, file)), 'failed');
    stubs.catalog.commitResidency = original;
    assertStillHere(stubs, file, name);
    assert.equal((await release(stubs, file)).released, true);
  });

  for (const type of ['xfs', 'btrfs', 'ext4'] as const) {
    test(`a reader of a stub on ${type} that races never sees a wrong byte; without the lease he does`, async () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const file = stubs.add('f', sizeBytes);
      const paths = { file: path.join(tree.data, 'f'), flag: path.join(tree.path, 'flag') };
      const say = (state: 'here' | 'gone'): void => writeFileSync(paths.flag, state);
      const recalled = async (): Promise<void> => {
        await recall(file);
        await stubs.store.flush();
        say('here');
      };
      await recalled();
      const original = stubs.catalog.commitResidency.bind(stubs.catalog);
      stubs.catalog.commitResidency = (rows) => {
        original(rows);
        say(file.residency.residentChunks === 0 ? 'gone' : 'here');
      };
      const safe = await race(
        paths,
        async () => (await release(stubs, file)).released,
        recalled,
        (released) => released >= 20,
      );
      assert.ok((safe['right'] ?? 0) > 10, JSON.stringify(safe));
      assert.equal(safe['wrong'], 0);
      stubs.catalog.commitResidency = original;
      // The control: the same without asking the kernel for the lease.
      const unsafe = await race(
        paths,
        () => {
          using fd = stubs.store.access.openForWriting(file.handle);
          say('gone');
          if (stubs.store.poison === undefined) punchHole(fd.fd, 0, sizeBytes);
          else stubs.store.poison.cover(fd.fd, sizeBytes);
          return sleep(1).then(() => true);
        },
        async () => {
          await file.write(sourceBytes(0, sizeBytes), 0);
          say('here');
        },
        (_, output) => output.includes('wrong'),
      );
      assert.ok((unsafe['wrong'] ?? 0) > 0, JSON.stringify(unsafe));
    });
  }
});

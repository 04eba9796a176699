/** One real mount from end to end: names, ranges, open modes, versions, release, and every way to end it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { open, readFile, readdir, rename, stat, statfs, writeFile } from 'node:fs/promises';
import { readFileSync, utimesSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountAt, readMountInfo } from '../../src/base/mount-info.ts';
import { CorpusWriter, chunkBytes, mebibyte, noise } from '../support/corpus.ts';
import { startLyingOriginProcess } from '../support/lying-origin.ts';
import { withEbb } from '../support/mount.ts';
import { patience } from '../support/patience.ts';
import { killAtExit, killGroup, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { ebbAttributes, residentBytes } from '../support/virtual-attributes.ts';
import { waitFor } from '../support/wait-for.ts';

const timeoutMs = 60_000;
const options = { timeout: patience * timeoutMs };

interface Source {
  readonly temporary: TemporaryDirectory;
  readonly root: string;
  readonly writer: CorpusWriter;
}

async function source(): Promise<Source> {
  const temporary = await temporaryDirectory('basics');
  const root = path.join(temporary.path, 'source');
  return { temporary, root, writer: new CorpusWriter(root) };
}

/** Reads at most `deadlineMs`: a daemon that does not answer must not stop the test. */
async function within<T>(what: string, work: Promise<T>, deadlineMs = 5_000): Promise<T> {
  const late = sleep(patience * deadlineMs, undefined, { ref: false }).then(() => {
    throw new Error(`${what} took longer than ${deadlineMs} ms`);
  });
  return await Promise.race([work, late]);
}

async function bytesAt(file: string, offset: number, length: number): Promise<Buffer> {
  await using handle = await open(file);
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, offset);
  return buffer.subarray(0, bytesRead);
}

for (const kind of ['directory', 'http'] as const) {
  test(`${kind}: a cold range costs its chunks, a warm file needs no daemon`, options, async () => {
    const { temporary, root, writer } = await source();
    await using _temporary = temporary;
    const sizeBytes = 4 * mebibyte + 5;
    writer.bytes('big.bin', sizeBytes);
    writer.bytes('sub/small.bin', 1_000);
    const content = readFileSync(path.join(root, 'big.bin'));
    await using origin = await startLyingOriginProcess({ root });
    const remote = kind === 'http' ? origin.url : root;
    await withEbb({ remote, options: ['--read-ahead', '0'] }, async (mount) => {
      const big = path.join(mount.path, 'big.bin');
      assert.deepEqual((await readdir(mount.path)).sort(), ['big.bin', 'sub']);
      assert.equal((await stat(big)).size, sizeBytes);
      assert.equal((await residentBytes(mount.path, ['big.bin'])).get('big.bin'), 0);
      const place = 2 * mebibyte;
      const some = await bytesAt(big, place, 4096);
      assert.ok(some.equals(content.subarray(place, place + 4096)));
      const resident = (await residentBytes(mount.path, ['big.bin'])).get('big.bin') ?? 0;
      // The kernel's own read-ahead may ask for one request more.
      assert.ok(resident >= chunkBytes && resident < sizeBytes, `${resident} bytes are here`);
      const states = await ebbAttributes(mount.path, ['big.bin', 'sub/small.bin'], 'state');
      assert.deepEqual([...states.values()], ['PAR', 'OFL']);

      // A descriptor that was opened cold stays cached for its life, and others beside it, too.
      await using cached = await open(big);
      assert.ok((await readFile(big)).equals(content));
      await using alsoCached = await open(big);
      // The kernel tells of closes a moment later.
      await waitFor(async () => (await mount.status()).openFiles === 2, { what: 'two open files' });
      await alsoCached.close();
      await cached.close();
      await waitFor(async () => (await mount.status()).openFiles === 0, { what: 'the closes' });

      // What is here, but not yet on the disk, is read through the daemon; the kernel may have forgotten it.
      assert.equal((await mount.ebb(['get', big])).code, 0);
      await using warm = await open(big);
      const before = (await origin.log()).length;
      process.kill(mount.pid, 'SIGSTOP');
      try {
        const all = Buffer.alloc(sizeBytes);
        const { bytesRead } = await within('a warm read', warm.read(all, 0, sizeBytes, 0));
        assert.equal(bytesRead, sizeBytes);
        assert.ok(all.equals(content));
      } finally {
        process.kill(mount.pid, 'SIGCONT');
      }
      assert.equal((await origin.log()).length, before);
      assert.equal((await ebbAttributes(mount.path, ['big.bin'], 'state')).get('big.bin'), 'DUL');
      await warm.close();
      const space = await statfs(mount.path);
      assert.ok(space.blocks > 0 && space.files >= 3);

      // The same cache again: what is here is not asked for.
      await mount.unmount();
      await mount.remount();
      const requestsOfBytes = async (): Promise<number> => {
        const log = await origin.log();
        return log.filter(({ method, path: at }) => method === 'GET' && at.endsWith('big.bin'))
          .length;
      };
      const requests = await requestsOfBytes();
      assert.ok((await readFile(big)).equals(content));
      assert.equal(await requestsOfBytes(), requests, 'resident bytes were asked for again');
    });
  });
}

test('three thousand names: each is listed once, and can be looked up', options, async () => {
  const { temporary, writer } = await source();
  await using _temporary = temporary;
  const names = Array.from({ length: 3_000 }, (_unused, index) => `file-${index}.txt`);
  for (const name of names) writer.bytes(`many/${name}`, 3);
  await withEbb({ remote: writer.root }, async (mount) => {
    const directory = path.join(mount.path, 'many');
    const listed = await readdir(directory);
    assert.deepEqual(listed.toSorted(), names.toSorted());
    const sizes = await Promise.all(
      listed.map(async (name) => (await stat(path.join(directory, name))).size),
    );
    assert.ok(sizes.every((size) => size === 3));
    const found = await runOk('find', [directory, '-type', 'f', '-size', '3c']);
    assert.equal(found.stdout.toString().trim().split('\n').length, names.length);
    await assert.rejects(stat(path.join(directory, 'absent')), { code: 'ENOENT' });
  });
});

test('a new version is a new inode, the old descriptor keeps the old bytes', options, async () => {
  const { temporary, root, writer } = await source();
  await using _temporary = temporary;
  const sizeBytes = 700_000;
  const [first, second] = [noise('first', sizeBytes), noise('second', sizeBytes + 1)];
  writer.bytes('f', 1);
  await writeFile(path.join(root, 'f'), first);
  await using origin = await startLyingOriginProcess({ root });
  await withEbb({ remote: origin.url, options: ['--ttl', '0'] }, async (mount) => {
    const file = path.join(mount.path, 'f');
    assert.ok((await readFile(file)).equals(first));
    await using old = await open(file);
    const oldInode = (await old.stat()).ino;
    await writeFile(path.join(root, 'new'), second);
    utimesSync(path.join(root, 'new'), 1_700_000_000, 1_700_000_000);
    await rename(path.join(root, 'new'), path.join(root, 'f'));
    assert.ok((await readFile(file)).equals(second));
    assert.notEqual((await stat(file)).ino, oldInode);
    const kept = Buffer.alloc(sizeBytes);
    await old.read(kept, 0, sizeBytes, 0);
    assert.ok(kept.equals(first));
    assert.equal((await old.stat()).size, sizeBytes);
  });
});

test(
  'a refresh shows new names at once, though their absence was remembered',
  options,
  async () => {
    const { temporary, root, writer } = await source();
    await using _temporary = temporary;
    writer.bytes('there', 10);
    await withEbb({ remote: root }, async (mount) => {
      const late = path.join(mount.path, 'late');
      await assert.rejects(stat(late), { code: 'ENOENT' });
      await writeFile(path.join(root, 'late'), 'now');
      await assert.rejects(stat(late), { code: 'ENOENT' });
      const refreshed = await mount.ebb(['refresh', mount.path]);
      assert.equal(refreshed.code, 0, refreshed.stderr.toString());
      await waitFor(async () => (await stat(late)).size === 3, { what: 'the new name' });
      assert.deepEqual((await readdir(mount.path)).toSorted(), ['late', 'there']);
    });
  },
);

test(
  'release frees what is closed, and refuses what is open, mapped or pinned',
  options,
  async () => {
    const { temporary, root, writer } = await source();
    await using _temporary = temporary;
    writer.bytes('f', 900_000);
    writer.bytes('d/.hidden', 900_000);
    const content = readFileSync(path.join(root, 'f'));
    await withEbb({ remote: root }, async (mount) => {
      const file = path.join(mount.path, 'f');
      const here = async (name: string) => (await residentBytes(mount.path, [name])).get(name);
      await mount.ebb(['get', mount.path]);
      // The sums of closed files follow the disk.
      await waitFor(async () => (await here('d/.hidden')) === 900_000, { what: 'the record' });
      {
        await using handle = await open(file);
        assert.equal((await mount.ebb(['release', file])).code, 3);
        await handle.close();
      }
      await mount.ebb(['pin', file]);
      assert.equal((await ebbAttributes(mount.path, ['f'], 'pinned' as 'state')).get('f'), '1');
      assert.equal((await mount.ebb(['release', file])).code, 3);
      assert.equal(await here('f'), 900_000);
      await mount.ebb(['unpin', file]);
      const released = await mount.ebb(['release', file]);
      assert.equal(released.code, 0, released.stderr.toString());
      assert.equal(await here('f'), 0);
      assert.ok((await readFile(file)).equals(content));
      // Dotfiles are files: a pattern that says all means them, too.
      assert.equal((await mount.ebb(['release', path.join(mount.path, 'd/*')])).code, 0);
      assert.equal(await here('d/.hidden'), 0);
    });
  },
);

test(
  'umount names who holds it; lazily it goes at once, the open file stays readable',
  options,
  async () => {
    const { temporary, root, writer } = await source();
    await using _temporary = temporary;
    writer.bytes('f', 900_000);
    const content = readFileSync(path.join(root, 'f'));
    await withEbb({ remote: root }, async (mount) => {
      const handle = await open(path.join(mount.path, 'f'));
      try {
        const busy = await mount.ebb(['umount', mount.path]);
        assert.equal(busy.code, 3);
        assert.match(busy.stderr.toString(), new RegExp(`pid ${process.pid} `));
        assert.ok(mount.alive());
        // It waits for the daemon to end, which the open file prevents.
        const lazy = mount.ebb(['umount', '--lazy', mount.path]);
        await waitFor(() => mountAt(readMountInfo(), mount.path) === undefined, {
          what: 'the detach',
        });
        const read = Buffer.alloc(900_000);
        await within('a read after the detach', handle.read(read, 0, 900_000, 0));
        assert.ok(read.equals(content));
        await handle.close();
        await lazy;
      } finally {
        await handle.close();
      }
      await waitFor(() => mount.over(), { what: 'the daemon to end' });
    });
  },
);

test('SIGTERM unmounts and ends, even while the remote does not answer', options, async () => {
  const { temporary, root, writer } = await source();
  await using _temporary = temporary;
  for (let index = 0; index < 20; index += 1) writer.bytes(`d/${index}.bin`, 300_000);
  await using origin = await startLyingOriginProcess({ root });
  await withEbb({ remote: origin.url }, async (mount) => {
    await readdir(path.join(mount.path, 'd'));
    await origin.addRule({
      match: { prefix: '/d/', listing: false },
      fault: { kind: 'stallHeaders' },
    });
    const reader = spawn('cat', [path.join(mount.path, 'd/7.bin')], {
      detached: true,
      stdio: 'ignore',
    });
    killAtExit(reader);
    try {
      const isAsked = async (): Promise<boolean> =>
        (await origin.log()).some((request) => request.path === '/d/7.bin');
      await waitFor(isAsked, { what: 'a reader who waits for the remote', timeoutMs });
      process.kill(mount.pid, 'SIGTERM');
      await waitFor(() => mountAt(readMountInfo(), mount.path) === undefined, {
        what: 'the detach',
      });
      assert.equal(reader.exitCode, null, 'who waits goes on waiting');
    } finally {
      killGroup(reader);
    }
    await waitFor(() => mount.over(), { what: 'the daemon to end' });
  });
});

test('two mounts live beside each other', options, async () => {
  const { temporary, root, writer } = await source();
  await using _temporary = temporary;
  writer.bytes('one/f', 10);
  writer.bytes('two/f', 20);
  await withEbb({ remote: path.join(root, 'one') }, async (one) => {
    await withEbb({ remote: path.join(root, 'two') }, async (two) => {
      assert.equal((await readFile(path.join(one.path, 'f'))).length, 10);
      assert.equal((await readFile(path.join(two.path, 'f'))).length, 20);
      await two.unmount();
      assert.equal((await readFile(path.join(one.path, 'f'))).length, 10);
    });
  });
});

/** The cache keeps to its limit, never at the cost of pinned or open files, and survives a remount unless stale. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmod, lstat, mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { CorpusWriter, mebibyte } from '../support/corpus.ts';
import { mountEbb, withEbb } from '../support/mount.ts';
import type { EbbMount } from '../support/mount.ts';
import { killAtExit, killGroup, run } from '../support/run.ts';
import { nginxLog, startNginx } from '../support/servers.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { ebbAttributes, residentBytes } from '../support/virtual-attributes.ts';
import { waitFor } from '../support/wait-for.ts';

const limitBytes = 8 * mebibyte;
/** Release works behind the readers: this much may be above the limit while it does, nothing after it did. */
const settleTimeoutMs = 15_000;
const fileNames = Array.from({ length: 24 }, (_unused, index) => `file-${index}.bin`);

function writeSource(directory: string): string {
  const source = path.join(directory, 'source');
  const writer = new CorpusWriter(source);
  for (const name of fileNames) writer.bytes(name, mebibyte + 1);
  writer.bytes('pinned.bin', 3 * mebibyte);
  writer.bytes('open.bin', 2 * mebibyte);
  writer.bytes('larger.bin', limitBytes + 5 * mebibyte);
  return source;
}

/** Allocated bytes of everything in the cache that is content, not the catalog. */
async function contentBytes(directory: string): Promise<number> {
  let sum = 0;
  for (const name of await readdir(directory, { recursive: true })) {
    if (/\.(db|sqlite3?|log|json|lock|sock)(-wal|-shm)?$|catalog/.test(name)) continue;
    const facts = await lstat(path.join(directory, name)).catch(() => undefined);
    if (facts?.isFile() === true) sum += facts.blocks * 512;
  }
  return sum;
}

async function compare(mount: EbbMount, source: string, names: readonly string[]): Promise<void> {
  const script = 'cd "$0" && for f; do cmp -- "$f" "$SOURCE/$f" || exit 1; done';
  const env = { SOURCE: source };
  const result = await run('/bin/sh', ['-c', script, mount.path, ...names], { env });
  assert.equal(result.code, 0, `${result.stdout.toString()}${result.stderr.toString()}`);
}

async function settle(mount: EbbMount): Promise<void> {
  await waitFor(async () => (await contentBytes(mount.cacheDirectory)) <= limitBytes, {
    what: `the cache to shrink to ${limitBytes} bytes`,
    timeoutMs: settleTimeoutMs,
    intervalMs: 200,
  });
  // Blocks are freed before it is written down that they are.
  await waitFor(async () => (await mount.status()).residentBytes <= limitBytes, {
    what: `status to say so`,
    timeoutMs: settleTimeoutMs,
  });
  assert.equal((await mount.status()).cacheLimitBytes, limitBytes);
}

/** A process that holds a file open, having read it, until disposed. */
function holdOpen(file: string): Disposable & { readonly ready: Promise<void> } {
  const child = spawn(
    '/bin/sh',
    ['-c', 'exec 3<"$0"; cat <&3 >/dev/null; echo ready; sleep 600', file],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    },
  );
  killAtExit(child);
  const ready = new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('exit', (code) => reject(new Error(`the holder ended with ${code}`)));
  });
  return { ready, [Symbol.dispose]: () => killGroup(child) };
}

test('reading three times the limit keeps the cache within it', async () => {
  await using directory = await temporaryDirectory('limit');
  const source = writeSource(directory.path);
  await withEbb({ remote: source, options: ['--cache-size', '8M'] }, async (mount) => {
    for (let from = 0; from < fileNames.length; from += 6) {
      await compare(mount, source, fileNames.slice(from, from + 6));
      await settle(mount);
    }
    const states = await ebbAttributes(mount.path, fileNames, 'state');
    assert.equal(states.get('file-0.bin'), 'OFL', 'the least recently used file was kept');
    assert.equal(states.get('file-23.bin'), 'DUL', 'the most recently used file was released');
    await compare(mount, source, fileNames);
    await settle(mount);
  });
});

test('a file larger than the limit can be read, and goes again', async () => {
  await using directory = await temporaryDirectory('limit');
  const source = writeSource(directory.path);
  await withEbb({ remote: source, options: ['--cache-size', '8M'] }, async (mount) => {
    await compare(mount, source, ['larger.bin', 'file-1.bin', 'larger.bin']);
    await settle(mount);
  });
});

test('pinned and open files stay when everything else has to go', async () => {
  await using directory = await temporaryDirectory('limit');
  const source = writeSource(directory.path);
  await withEbb({ remote: source, options: ['--cache-size', '8M'] }, async (mount) => {
    const pinned = path.join(mount.path, 'pinned.bin');
    for (const verb of ['pin', 'get']) {
      const result = await mount.ebb([verb, pinned]);
      assert.equal(result.code, 0, `ebb ${verb}: ${result.stderr.toString()}`);
    }
    using holder = holdOpen(path.join(mount.path, 'open.bin'));
    await holder.ready;
    await compare(mount, source, fileNames);
    await settle(mount);
    const resident = await residentBytes(mount.path, ['pinned.bin', 'open.bin']);
    assert.equal(resident.get('pinned.bin'), 3 * mebibyte, 'a pinned file was released');
    assert.equal(resident.get('open.bin'), 2 * mebibyte, 'an open file was released');
  });
});

test('the cache survives a remount; only what changed on the remote is fetched again', async () => {
  await using directory = await temporaryDirectory('limit');
  await chmod(directory.path, 0o755);
  const source = writeSource(directory.path);
  await using origin = await startNginx({ root: source, workers: 1 });
  const cacheDirectory = path.join(directory.path, 'cache');
  await mkdir(cacheDirectory);
  await using mount = await mountEbb({ remote: origin.url, cacheDirectory });
  const names = fileNames.slice(0, 4);
  await compare(mount, source, names);
  await mount.unmount();

  const writer = new CorpusWriter(source);
  writer.sparse('file-2.bin', mebibyte + 1, [[700_000, 1000]]);
  const before = (await nginxLog(origin)).length;
  await mount.remount(['--ttl', '0']);
  await compare(mount, source, names);
  const fetched = (await nginxLog(origin))
    .slice(before)
    .split('\n')
    .flatMap((line) => /"GET \/(file-\S*) HTTP[^"]*" 20/.exec(line)?.[1] ?? []);
  assert.deepEqual([...new Set(fetched)], ['file-2.bin']);
});

test('a smaller limit at the next mount is kept, too', async () => {
  await using directory = await temporaryDirectory('limit');
  const source = writeSource(directory.path);
  await using mount = await mountEbb({ remote: source });
  await compare(mount, source, fileNames);
  assert.ok((await contentBytes(mount.cacheDirectory)) > limitBytes, 'nothing was cached');
  await mount.unmount();
  await mount.remount(['--cache-size', '8M']);
  await compare(mount, source, ['file-0.bin']);
  await settle(mount);
});

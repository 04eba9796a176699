/** Only what was asked for, at once (tenet 4): counted in requests and bytes at the origin. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { compileHelper } from '../probes/probe.ts';
import { CorpusWriter, chunkBytes, mebibyte } from '../support/corpus.ts';
import { startLyingOriginProcess } from '../support/lying-origin.ts';
import type { LyingOrigin } from '../support/lying-origin.ts';
import { withEbb } from '../support/mount.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const gibibyte = 1024 * mebibyte;

/** Body bytes of files (not listings) that the origin sent. */
async function contentServed(origin: LyingOrigin): Promise<number> {
  const records = await origin.log();
  return records
    .filter((record) => !record.path.endsWith('/'))
    .reduce((sum, record) => sum + record.bodyBytes, 0);
}

test('one byte at the end of a huge file costs one chunk', async () => {
  await using directory = await temporaryDirectory('economy');
  const source = path.join(directory.path, 'source');
  new CorpusWriter(source).sparse('huge.bin', 8 * gibibyte, [[8 * gibibyte - 10, 10]]);
  await using origin = await startLyingOriginProcess({ root: source });
  await withEbb({ remote: origin.url }, async (mount) => {
    await runOk('tail', ['-c', '1', path.join(mount.path, 'huge.bin')]);
    const served = await contentServed(origin);
    assert.ok(served <= 2 * chunkBytes, `${served} bytes were fetched for one`);
  });
});

test('names and attributes cost no content', async () => {
  await using directory = await temporaryDirectory('economy');
  const source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  for (let index = 0; index < 40; index += 1) writer.bytes(`d${index % 4}/f${index}`, mebibyte);
  await using origin = await startLyingOriginProcess({ root: source });
  await withEbb({ remote: origin.url }, async (mount) => {
    await runOk('find', [mount.path, '-size', '+1']);
    await runOk('ls', ['-lR', mount.path]);
    await runOk('du', ['-s', mount.path]);
    assert.ok((await contentServed(origin)) <= 40, 'listing fetched content');
  });
});

test('sixteen readers of one cold file fetch it once', async () => {
  await using directory = await temporaryDirectory('economy');
  const source = path.join(directory.path, 'source');
  const sizeBytes = 9 * mebibyte + 1;
  new CorpusWriter(source).bytes('shared.bin', sizeBytes);
  const helper = await compileHelper(directory.path);
  await using origin = await startLyingOriginProcess({ root: source });
  await withEbb({ remote: origin.url }, async (mount) => {
    const threads = await runOk(helper, ['threads', path.join(mount.path, 'shared.bin')]);
    const expected = await runOk(helper, ['read', path.join(source, 'shared.bin')]);
    assert.equal(threads.stdout.toString(), expected.stdout.toString());
    const served = await contentServed(origin);
    assert.ok(served <= sizeBytes + chunkBytes, `${served} bytes were fetched for ${sizeBytes}`);
    await origin.clearLog();
    await runOk('cksum', [path.join(mount.path, 'shared.bin')]);
    assert.equal(await contentServed(origin), 0, 'what is here was fetched again');
  });
});

test('the first byte does not wait for the last', async () => {
  await using directory = await temporaryDirectory('economy');
  const source = path.join(directory.path, 'source');
  const sizeBytes = 512 * mebibyte;
  new CorpusWriter(source).sparse('slow.bin', sizeBytes, [[0, 10]]);
  await using origin = await startLyingOriginProcess({ root: source });
  // 1 MB/s: all of it takes nine minutes.
  await origin.addRule({
    fault: { kind: 'drip', bytesPerSecond: 1_000_000 },
    match: { path: '/slow.bin' },
  });
  await withEbb({ remote: origin.url }, async (mount) => {
    await runOk('head', ['-c', '1', path.join(mount.path, 'slow.bin')]);
    const served = await contentServed(origin);
    assert.ok(served < sizeBytes / 2, `the first byte took ${served} bytes`);
  });
});

test('ls of a directory lists nothing below it; find lists each directory once', async () => {
  await using directory = await temporaryDirectory('economy');
  const source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  const leaves = 60;
  for (let index = 0; index < leaves; index += 1) writer.text(`a${index % 6}/b${index}/f`, 'x');
  await using origin = await startLyingOriginProcess({ root: source });
  const listings = async (): Promise<string[]> =>
    (await origin.log())
      .filter(({ method, path: at }) => method === 'GET' && at.endsWith('/'))
      .map((record) => record.path);
  await withEbb({ remote: origin.url }, async (mount) => {
    await runOk('ls', [mount.path]);
    await runOk('ls', [path.join(mount.path, 'a3')]);
    assert.deepEqual((await listings()).toSorted(), ['/', '/a3/']);
    await runOk('find', [mount.path]);
    const all = await listings();
    assert.equal(all.length, 1 + 6 + leaves);
    assert.equal(new Set(all).size, all.length, 'a directory was listed twice');
  });
});

test('a program that reads a tree of small files asks for each of them once', async () => {
  await using directory = await temporaryDirectory('economy');
  const source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  const files = 200;
  for (let index = 0; index < files; index += 1) writer.bytes(`d${index % 10}/f${index}`, 1000);
  await using origin = await startLyingOriginProcess({ root: source });
  await withEbb({ remote: origin.url }, async (mount) => {
    await runOk('tar', ['-C', mount.path, '-cf', path.join(directory.path, 'out.tar'), '.']);
    const asked = (await origin.log()).filter((record) => !record.path.endsWith('/'));
    // Until it is known that it reads what it looks at, a few are asked about before they are fetched.
    assert.ok(asked.length <= files + 20, `${asked.length} requests for ${files} files`);
  });
});

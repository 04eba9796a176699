/** A mount whose remote is another mount of Ebb's. */
import assert from 'node:assert/strict';
import { readFile, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { mountEbb } from '../support/mount.ts';
import { patternBytes } from '../support/pattern.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const sizeBytes = 1_000_000;
const whenSeconds = 1_600_000_000;

/** Not by this process, which must not touch mounts. */
async function read(file: string): Promise<Buffer> {
  await using directory = await temporaryDirectory('copy');
  const copy = path.join(directory.path, 'copy');
  await runOk('cp', [file, copy]);
  return await readFile(copy);
}

test('a version that a mount below tells by its inode number alone is another version', async () => {
  await using source = await temporaryDirectory('below');
  const put = async (seed: number): Promise<Buffer> => {
    const bytes = Buffer.from(patternBytes(seed, sizeBytes));
    await writeFile(path.join(source.path, 'f'), bytes);
    // As a build does that wants the same output each time.
    await utimes(path.join(source.path, 'f'), whenSeconds, whenSeconds);
    return bytes;
  };
  const options = ['--ttl', '0'];
  const first = await put(1);
  await using below = await mountEbb({ remote: source.path, options });
  await using above = await mountEbb({ remote: below.path, options });
  const shown = path.join(above.path, 'f');
  assert.ok(first.equals(await read(shown)));
  const second = await put(2);
  assert.ok(second.equals(await read(path.join(below.path, 'f'))));
  assert.ok(second.equals(await read(shown)));
});

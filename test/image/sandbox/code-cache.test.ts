/** Compiled code for servers: made after the first mount, used by the next one, changed by nobody. Needs root. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, readdir, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { serverFlags } from '../../../src/image/sandbox/node-flags.ts';
import { run, runOk } from '../../support/run.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import { waitFor } from '../../support/wait-for.ts';
import { mountImage } from '../fixture.ts';

const serverScript = fileURLToPath(new URL('../../../src/image/server/main.ts', import.meta.url));

/** The mount of the cache in the server's own mount namespace; undefined: there is none. */
function cacheMount(serverPid: number, cache: string): string | undefined {
  const lines = readFileSync(`/proc/${serverPid}/mountinfo`, 'utf8').split('\n');
  return lines.find((line) => line.includes(` ${cache} `));
}

test('a server starts from compiled code, which is made after the first mount and read-only for it', async () => {
  await using directory = await temporaryDirectory('code-cache');
  await chmod(directory.path, 0o755);
  const image = path.join(directory.path, 'disk.img');
  await writeFile(image, '');
  await truncate(image, 8 * 1024 * 1024);
  await runOk('mkfs.ext4', ['-q', '-F', image], { debianPackage: 'e2fsprogs' });
  const base = path.join(directory.path, 'cache');
  const cache = path.join(base, 'sandbox');
  const before = process.env['NODE_COMPILE_CACHE'];
  process.env['NODE_COMPILE_CACHE'] = base;
  try {
    await using first = await mountImage({ path: image });
    assert.equal(cacheMount(first.serverPid, cache), undefined);
    await waitFor(() => existsSync(path.join(cache, 'key')), {
      what: 'the compiled code',
      timeoutMs: 120_000,
    });
    await using second = await mountImage({ path: image });
    const line = cacheMount(second.serverPid, cache) ?? assert.fail('the server does not have it');
    assert.ok(line.split(' ')[5]?.split(',').includes('ro'), line);
  } finally {
    if (before === undefined) delete process.env['NODE_COMPILE_CACHE'];
    else process.env['NODE_COMPILE_CACHE'] = before;
  }
  for (const entry of await readdir(cache, { recursive: true })) {
    const { mode, uid } = await stat(path.join(cache, entry));
    assert.deepEqual([mode & 0o022, uid], [0, 0], entry);
  }
  const { stderr } = await run(
    process.execPath,
    [...serverFlags, serverScript, JSON.stringify({ mode: 'load' })],
    {
      env: { NODE_COMPILE_CACHE: cache, NODE_DEBUG_NATIVE: 'COMPILE_CACHE' },
      uid: 65_534,
      gid: 65_534,
    },
  );
  const said = stderr.toString();
  assert.ok(
    (said.match(/V8 code cache for .* was accepted/g) ?? []).length > 50,
    said.slice(0, 500),
  );
  assert.doesNotMatch(said, /was rejected|cache miss/);
});

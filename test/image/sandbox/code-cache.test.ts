/** Compiled code for servers: made after the first mount, used by the next one, changed by nobody. Needs root. */
import assert from 'node:assert/strict';
import { appendFileSync, existsSync, readFileSync, truncateSync } from 'node:fs';
import { chmod, cp, mkdir, readdir, stat, symlink } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { codeCacheDirectory } from '../../../src/image/sandbox/code-cache.ts';
import { codeCacheEnvironment, serverFlags } from '../../../src/image/sandbox/node-flags.ts';
import { makeExt4Image } from '../../support/ext4-image.ts';
import { run, runOk } from '../../support/run.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import { waitFor } from '../../support/wait-for.ts';
import { mountImage } from '../fixture.ts';

/** What the server was started from. */
function scriptOf(serverPid: number): string {
  const words = readFileSync(`/proc/${serverPid}/cmdline`, 'latin1').split('\0');
  return words.find((word) => /\.(ts|mjs)$/.test(word)) ?? '';
}

/** The mount of the cache in the server's own mount namespace; undefined: there is none. */
function cacheMount(serverPid: number, cache: string): string | undefined {
  const lines = readFileSync(`/proc/${serverPid}/mountinfo`, 'utf8').split('\n');
  return lines.find((line) => line.includes(` ${cache} `));
}

test('a server starts from compiled code, which is made after the first mount and read-only for it', async () => {
  await using directory = await temporaryDirectory('code-cache');
  await chmod(directory.path, 0o755);
  const image = path.join(directory.path, 'disk.img');
  await makeExt4Image(image, 8);
  const base = path.join(directory.path, 'cache');
  const before = process.env['NODE_COMPILE_CACHE'];
  process.env['NODE_COMPILE_CACHE'] = base;
  const cache = codeCacheDirectory() ?? assert.fail('there would be none');
  const state = path.join(cache, 'sources');
  const server = path.join(cache, 'server.mjs');
  const isCurrent = (): boolean =>
    existsSync(state) &&
    !readFileSync(state, 'utf8').endsWith('another') &&
    readFileSync(server).length > 0;
  const made = { what: 'the compiled code', timeoutMs: 120_000 };
  try {
    {
      await using first = await mountImage({ path: image });
      assert.equal(cacheMount(first.serverPid, cache), undefined);
      assert.match(scriptOf(first.serverPid), /server\/main\.ts$/);
      await waitFor(isCurrent, made);
      await using second = await mountImage({ path: image });
      const line = cacheMount(second.serverPid, cache) ?? assert.fail('the server has it not');
      assert.ok(line.split(' ')[5]?.split(',').includes('ro'), line);
      assert.equal(scriptOf(second.serverPid), path.join(cache, 'server.mjs'));
      assert.deepEqual(await readdir(second.path), ['lost+found']);
    }
    const damages = [
      () => appendFileSync(state, 'another'),
      // A power cut may leave this.
      () => truncateSync(server),
    ];
    for (const damage of damages) {
      damage();
      await using third = await mountImage({ path: image });
      assert.match(scriptOf(third.serverPid), /server\/main\.ts$/);
      assert.deepEqual(third.result['notes'], []);
      await waitFor(isCurrent, made);
    }
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
    [...serverFlags, path.join(cache, 'server.mjs'), JSON.stringify({ mode: 'load' })],
    {
      env: { ...codeCacheEnvironment(cache), NODE_DEBUG_NATIVE: 'COMPILE_CACHE' },
      uid: 65_534,
      gid: 65_534,
    },
  );
  const said = stderr.toString();
  assert.match(said, /V8 code cache for .*server\.mjs.* was accepted/);
  assert.doesNotMatch(said, /was rejected|cache miss/);
});

const root = path.join(import.meta.dirname, '../../..');

/** Another copy of Ebb, of the same version. */
async function copyOfEbb(directory: string): Promise<string> {
  const copy = path.join(directory, 'ebb');
  await mkdir(copy);
  for (const name of ['src', 'package.json']) {
    await cp(path.join(root, name), path.join(copy, name), { recursive: true });
  }
  await symlink(path.join(root, 'node_modules'), path.join(copy, 'node_modules'));
  return copy;
}

/** The code cache that a copy of Ebb starts its servers from. */
async function cacheOf(ebb: string, base: string, isToBeMade: boolean): Promise<string> {
  const script = `
    import { codeCacheDirectory, currentCodeCache } from '${ebb}/src/image/sandbox/code-cache.ts';
    if (${isToBeMade}) {
      process.argv[2] = codeCacheDirectory();
      await import('${ebb}/src/image/sandbox/prime.ts');
    }
    console.log(currentCodeCache());`;
  const flags = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script];
  const env = { NODE_COMPILE_CACHE: base };
  const { stdout } = await runOk(process.execPath, [...flags, ''], { env, timeoutMs: 120_000 });
  return stdout.toString().trim();
}

test('each copy of Ebb starts servers from its own code, also where one user has several', async () => {
  await using directory = await temporaryDirectory('copies');
  const base = path.join(directory.path, 'cache');
  await mkdir(base);
  const copy = await copyOfEbb(directory.path);
  const ours = await cacheOf(root, base, true);
  assert.match(ours, /sandbox-/);
  assert.equal(await cacheOf(copy, base, false), 'undefined');
  const others = await cacheOf(copy, base, true);
  assert.notEqual(others, ours);
  const sources = readFileSync(path.join(others, 'sources'), 'utf8').split('\n').slice(2);
  assert.deepEqual(
    sources.filter((line) => !line.startsWith(`${copy}/`)),
    [],
  );
  assert.equal(await cacheOf(root, base, false), ours);
});

test('compiled code of which a part does not load is not published', async () => {
  await using directory = await temporaryDirectory('prime');
  const copy = await copyOfEbb(directory.path);
  const prime = path.join(copy, 'src/image/sandbox/prime.ts');
  const cache = path.join(directory.path, 'sandbox');
  const words = ['--disable-warning=ExperimentalWarning', prime, cache];
  // One that was killed has left this.
  await mkdir(`${cache}.abc123`);
  // A module may wait while it is loaded; what is joined of it may not.
  appendFileSync(path.join(copy, 'src/image/server/open.ts'), '\nawait undefined;\n');
  const { stderr } = await run(process.execPath, words, { timeoutMs: 120_000 });
  assert.match(stderr.toString(), /server\.mjs made of .* does not load/);
  assert.deepEqual(await readdir(directory.path), ['ebb']);
});

/** Starts of a server that do not go as they should: what becomes of its namespaces. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { chmod, chown, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { startBeside } from '../../../src/image/broker/serve.ts';
import {
  codeCacheDirectory,
  codeCacheState,
  codeCacheStateFile,
  currentCodeCache,
} from '../../../src/image/sandbox/code-cache.ts';
import { startServer } from '../../../src/image/sandbox/start.ts';
import type { SandboxedServer } from '../../../src/image/sandbox/launch.ts';
import { openFd, OpenFlag } from '../../../src/sys/fd.ts';
import { runOk } from '../../support/run.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import { waitFor } from '../../support/wait-for.ts';

const primeScript = path.join(import.meta.dirname, '../../../src/image/sandbox/prime.ts');

/** Starts a server with `script` in the place of unshare(1); it finds the real one in REAL, and may write to STATE. */
async function startWith(
  script: string,
  isRight: (server: SandboxedServer) => void,
  start = startServer,
): Promise<void> {
  await using directory = await temporaryDirectory('start');
  await chmod(directory.path, 0o755);
  const state = path.join(directory.path, 'state');
  await mkdir(state);
  await chmod(state, 0o777);
  const real = (await runOk('sh', ['-c', 'command -v unshare'])).stdout.toString().trim();
  const fake = path.join(directory.path, 'unshare');
  await writeFile(fake, `#!/bin/sh\nREAL=${real}\nSTATE=${state}/was-here\n${script}\n`);
  await chmod(fake, 0o755);
  const before = process.env['PATH'] ?? '';
  process.env['PATH'] = `${directory.path}:${before}`;
  try {
    using nothing = openFd('/dev/null', OpenFlag.rdwr);
    using server = await start({
      script: path.join(import.meta.dirname, 'hostile-server.ts'),
      scripts: import.meta.dirname,
      args: [JSON.stringify({ imageBytes: 1_000_000 })],
      deviceFd: nothing.fd,
      imageFd: nothing.fd,
      output: 'ignore',
    });
    isRight(server);
  } finally {
    process.env['PATH'] = before;
  }
}

function isInNamespaces({ child }: SandboxedServer): boolean {
  return readlinkSync(`/proc/${child.pid}/ns/net`) !== readlinkSync('/proc/self/ns/net');
}

test('a system that refuses namespaces gets a server without, and that is said', async () => {
  await startWith('echo "unshare: Operation not permitted" >&2; exit 1', (server) => {
    assert.equal(isInNamespaces(server), false);
    const [note = '', ...more] = server.notes;
    assert.match(note, /without namespaces, .* refuses: unshare: Operation not permitted\.$/);
    assert.deepEqual(more, []);
  });
});

test('a start that is killed once is tried again, with namespaces, and that is said', async () => {
  const script = 'if mkdir $STATE 2>/dev/null; then kill -KILL $$; fi; exec $REAL "$@"';
  await startWith(script, (server) => {
    assert.equal(isInNamespaces(server), true);
    assert.match(server.notes.join(), /did not start: SIGKILL\. It was started again\./);
  });
});

/** With a code cache of one's own, in a directory that everybody may write to. */
async function withCodeCache(act: (cache: string) => Promise<void>): Promise<void> {
  await using directory = await temporaryDirectory('code');
  await chmod(directory.path, 0o777);
  const before = process.env['NODE_COMPILE_CACHE'];
  process.env['NODE_COMPILE_CACHE'] = directory.path;
  try {
    const cache = codeCacheDirectory() ?? assert.fail('there would be none');
    const flag = '--disable-warning=ExperimentalWarning';
    await runOk(process.execPath, [flag, primeScript, cache], { timeoutMs: 120_000 });
    assert.equal(currentCodeCache(), cache);
    await act(cache);
  } finally {
    if (before === undefined) delete process.env['NODE_COMPILE_CACHE'];
    else process.env['NODE_COMPILE_CACHE'] = before;
  }
}

/** Makes a cache of it that no launcher starts from, and that looks as if it had been made like this. */
async function spoil(cache: string): Promise<void> {
  const state = codeCacheStateFile(cache);
  const sources = readFileSync(state, 'utf8').split('\n').slice(1).join('\n');
  await writeFile(path.join(cache, 'enter.mjs'), '');
  assert.equal(currentCodeCache(), undefined);
  await writeFile(state, codeCacheState(cache, sources));
  assert.equal(currentCodeCache(), cache);
}

test('a start during which the code cache is replaced is made again, from the sources', async () => {
  await withCodeCache(async (cache) => {
    const replace = `mv ${cache} ${cache}.old; cp -r ${cache}.old ${cache}`;
    const script = `if mkdir $STATE 2>/dev/null; then ${replace}; fi; exec $REAL "$@"`;
    await startWith(script, (server) => {
      assert.equal(isInNamespaces(server), true);
      assert.match(server.notes.join(), /It was started again\./);
    });
    assert.ok(existsSync(codeCacheStateFile(cache)), 'the new one is not to blame');
    await startWith('exec $REAL "$@"', (server) => assert.deepEqual(server.notes, []));
  });
});

test('a code cache that no server starts from is done without, and counts as none from then on', async () => {
  await withCodeCache(async (cache) => {
    await spoil(cache);
    await startWith('exec $REAL "$@"', (server) => {
      assert.equal(isInNamespaces(server), true);
      assert.match(server.notes.join(), /did not start: .* It was started again\./);
    });
    assert.equal(currentCodeCache(), undefined);
    await startWith('exec $REAL "$@"', (server) => assert.deepEqual(server.notes, []));
  });
});

test('a system that refuses namespaces and has a bad code cache gets a server, too', async () => {
  await withCodeCache(async (cache) => {
    await spoil(cache);
    await startWith('echo "unshare: Operation not permitted" >&2; exit 1', (server) => {
      assert.equal(isInNamespaces(server), false);
      assert.match(server.notes.join(), /refuses: .*,The server .* It was started again\./);
    });
    assert.equal(currentCodeCache(), undefined);
  });
});

test('a start that is killed each time fails: a sandbox does not become weaker by that', async () => {
  // The question whether namespaces are to be had is answered as it is.
  const script = 'for last; do :; done; [ "$last" = true ] || kill -KILL $$; exec $REAL "$@"';
  await assert.rejects(
    startWith(script, () => assert.fail('it started')),
    { code: 'EIO', message: 'The server of the image did not start: SIGKILL.' },
  );
});

test('a code cache that anybody else can change is none', async () => {
  await withCodeCache(async (cache) => {
    for (const name of ['', 'sources', 'enter.mjs', 'server.mjs']) {
      const file = path.join(cache, name);
      const mode = name === '' ? 0o755 : 0o644;
      await chmod(file, mode | 0o002);
      assert.equal(currentCodeCache(), undefined, `others may write to ${file}`);
      await chmod(file, mode | 0o020);
      assert.equal(currentCodeCache(), undefined, `a group may write to ${file}`);
      await chmod(file, mode);
      await chown(file, 65_534, 0);
      assert.equal(currentCodeCache(), undefined, `${file} is another user's`);
      await chown(file, 0, 0);
      await rename(file, `${cache}.moved`);
      await symlink(`${cache}.moved`, file);
      assert.equal(currentCodeCache(), undefined, `${file} is a link`);
      await rm(file);
      await rename(`${cache}.moved`, file);
      assert.equal(currentCodeCache(), cache);
    }
  });
});

/** Of this process, by id. */
function children(): string {
  return readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1').trim();
}

test('a server is ended when what its broker does meanwhile fails', async () => {
  const failing = startWith(
    'exec $REAL "$@"',
    () => assert.fail('it was kept'),
    async (options) => {
      const starting = startBeside(options, () => Promise.reject(new Error('no broker')));
      assert.notEqual(children(), '');
      const [server] = await starting;
      return server;
    },
  );
  await assert.rejects(failing, /no broker/);
  await waitFor(() => children() === '', { what: 'the end of the server' });
});

/**
 * The launcher `ebb` in copies of its own: first runs, repeated, concurrent and broken ones,
 * symbolic links, other users. npm is a stand-in that puts the same things in place without the
 * network, and can fail on demand.
 */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, copyFileSync, linkSync, mkdirSync, readFileSync } from 'node:fs';
import { existsSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { run } from './support/run.ts';
import type { RunResult } from './support/run.ts';
import { temporaryDirectory } from './support/temporary.ts';

const root = path.join(import.meta.dirname, '..');
const nodePackage = `node-linux-${process.arch}`;
const packages = [
  ...Object.keys(
    (JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as Manifest).dependencies,
  ),
  `@koromix/koffi-linux-${process.arch}`,
];

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>;
}

/** Shows what it was called with. */
const stubMain = `
process.stdout.write(JSON.stringify({
  words: process.argv.slice(2),
  major: Number(process.versions.node.split('.')[0]),
  cache: process.env['NODE_COMPILE_CACHE'],
}) + '\\n');
process.exitCode = Number(process.env['STUB_EXIT'] ?? 0);
`;

/**
 * Writes npm's own mark last, as npm does. Holds a directory while it works, so that two at once
 * are noticed.
 */
const stubNpm = `#!/bin/sh
[ "$1" != --version ] || { echo 10.0.0; exit 0; }
echo "$*" >>"$STUB_DIRECTORY/npm.log"
[ ! -e "$STUB_DIRECTORY/npm-fails" ] || { echo "npm says why" >&2; exit 7; }
mkdir "$STUB_DIRECTORY/npm-works" || { echo collision >>"$STUB_DIRECTORY/npm.log"; exit 8; }
rm -rf node_modules
for package in ${packages.join(' ')}; do
  mkdir -p "node_modules/$package" && echo '{}' >"node_modules/$package/package.json"
done
mkdir -p node_modules/${nodePackage}/bin
ln "$STUB_DIRECTORY/node" node_modules/${nodePackage}/bin/node
sleep 0.2
echo '{}' >node_modules/.package-lock.json
rmdir "$STUB_DIRECTORY/npm-works"
echo done >>"$STUB_DIRECTORY/npm.log"
`;

class Copy implements AsyncDisposable {
  readonly directory: string;
  readonly #dispose: () => PromiseLike<void>;

  private constructor(directory: string, dispose: () => PromiseLike<void>) {
    this.directory = directory;
    this.#dispose = dispose;
  }

  static async make(): Promise<Copy> {
    const temporary = await temporaryDirectory('launcher');
    const copy = new Copy(temporary.path, () => temporary[Symbol.asyncDispose]());
    chmodSync(copy.directory, 0o755);
    for (const folder of ['bin', 'project/src/cli', 'project/setup', 'home']) {
      mkdirSync(copy.at(folder), { recursive: true });
    }
    for (const file of ['ebb', 'setup/install.sh', 'package.json', 'package-lock.json']) {
      copyFileSync(path.join(root, file), copy.at(`project/${file}`));
    }
    writeFileSync(copy.at('project/src/cli/main.ts'), stubMain);
    writeFileSync(copy.at('bin/npm'), stubNpm, { mode: 0o755 });
    try {
      linkSync(process.execPath, copy.at('node'));
    } catch {
      copyFileSync(process.execPath, copy.at('node'));
    }
    return copy;
  }

  at(name: string): string {
    return path.join(this.directory, name);
  }

  /** Times npm was asked to install, and whether it was while at it already. */
  get npmCalls(): readonly string[] {
    if (!existsSync(this.at('npm.log'))) return [];
    return readFileSync(this.at('npm.log'), 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('install'));
  }

  start(words: readonly string[] = [], options: StartOptions = {}): Promise<RunResult> {
    return run(options.program ?? this.at('project/ebb'), words, {
      cwd: options.cwd ?? this.directory,
      uid: options.uid,
      gid: options.uid,
      env: {
        PATH: `${this.at('bin')}:/usr/sbin:/usr/bin:/sbin:/bin`,
        STUB_DIRECTORY: this.directory,
        HOME: this.at('home'),
        XDG_CACHE_HOME: '',
        NODE_COMPILE_CACHE: '',
        ...options.env,
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dispose();
  }
}

interface StartOptions {
  readonly program?: string;
  readonly cwd?: string;
  readonly uid?: number;
  readonly env?: Readonly<Record<string, string>>;
}

function answer(result: RunResult): { words: string[]; major: number; cache?: string } {
  assert.equal(result.code, 0, result.stderr.toString());
  return JSON.parse(result.stdout.toString()) as { words: string[]; major: number };
}

test('the first run installs once and says so on standard error; later ones are silent', async () => {
  await using copy = await Copy.make();
  const first = await copy.start(['a b', '', '--x=*', "'"]);
  assert.deepEqual(answer(first).words, ['a b', '', '--x=*', "'"]);
  assert.ok(answer(first).major >= 24);
  assert.equal(
    first.stderr.toString(),
    `ebb: installing its packages into ${copy.at('project/node_modules')}\n`,
  );
  assert.deepEqual(copy.npmCalls, [
    'install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error --omit=dev',
  ]);
  const second = await copy.start(['--version'], { env: { STUB_EXIT: '3' } });
  assert.equal(second.code, 3);
  assert.equal(second.stderr.toString(), '');
  assert.equal(copy.npmCalls.length, 1);
});

test('starts from anywhere: symbolic links, relative paths, PATH, an odd directory', async () => {
  await using copy = await Copy.make();
  await copy.start();
  mkdirSync(copy.at('with space/deep'), { recursive: true });
  symlinkSync('../../project/ebb', copy.at('with space/deep/second'));
  symlinkSync(copy.at('with space/deep/second'), copy.at('bin/ebb'));
  symlinkSync(copy.at('project'), copy.at('linked-project'));
  for (const [program, cwd] of [
    [copy.at('bin/ebb'), '/'],
    ['./second', copy.at('with space/deep')],
    ['deep/../deep/second', copy.at('with space')],
    [copy.at('linked-project/ebb'), '/'],
    ['ebb', '/'],
  ] as const) {
    assert.deepEqual(answer(await copy.start(['x'], { program, cwd })).words, ['x'], program);
  }
  const bySh = await copy.start(['ebb', 'x'], { program: '/bin/sh', cwd: copy.at('project') });
  assert.deepEqual(answer(bySh).words, ['x']);
});

test('first runs at the same time do not collide', async () => {
  await using copy = await Copy.make();
  const results = await Promise.all([1, 2, 3, 4].map((n) => copy.start([String(n)])));
  assert.deepEqual(
    results.map((result) => answer(result).words[0]),
    ['1', '2', '3', '4'],
  );
  assert.equal(copy.npmCalls.length, 1);
  assert.doesNotMatch(readFileSync(copy.at('npm.log'), 'utf8'), /collision/);
});

test('broken installations are repaired, a touched lock file changes nothing', async () => {
  await using copy = await Copy.make();
  await copy.start();
  const lock = copy.at('project/package-lock.json');
  const later = new Date(Date.now() + 60_000);
  utimesSync(lock, later, later);
  answer(await copy.start());
  assert.equal(copy.npmCalls.length, 1, 'touched only');

  const modules = copy.at('project/node_modules');
  let expected = 1;
  for (const missing of [...packages, '.package-lock.json', '']) {
    rmSync(path.join(modules, missing), { recursive: true });
    answer(await copy.start());
    expected += 1;
    assert.equal(copy.npmCalls.length, expected, `without ${missing}`);
  }

  writeFileSync(lock, `${readFileSync(lock, 'utf8')}\n`);
  utimesSync(lock, later, later);
  answer(await copy.start());
  answer(await copy.start());
  assert.equal(copy.npmCalls.length, expected + 1, 'changed');
  mkdirSync(path.join(modules, 'oxlint'));
  rmSync(path.join(modules, 'undici'), { recursive: true });
  answer(await copy.start());
  assert.match(copy.npmCalls.at(-1) ?? '', /--include=dev$/, 'a full installation stays full');
});

test('a failed installation ends with a sentence and exit 1, and the next run tries again', async () => {
  await using copy = await Copy.make();
  writeFileSync(copy.at('npm-fails'), '');
  const failed = await copy.start();
  assert.equal(failed.code, 1);
  assert.equal(failed.stdout.length, 0);
  assert.match(
    failed.stderr.toString(),
    /npm says why\nebb: its packages could not be installed \(npm install in .* failed, see above\)\n$/,
  );
  rmSync(copy.at('npm-fails'));
  answer(await copy.start());
  rmSync(copy.at('project/src/cli/main.ts'));
  const incomplete = await copy.start();
  assert.equal(incomplete.code, 1);
  assert.match(incomplete.stderr.toString(), /main\.ts is missing; start ebb from a complete copy/);
});

test('other users run what root has installed, and are told when nothing is', async () => {
  await using copy = await Copy.make();
  const nobody = { uid: 65534 };
  const refused = await copy.start([], nobody);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr.toString(), /you may not write there; run '.*\/ebb --version' once/);
  assert.equal(copy.npmCalls.length, 0);

  const root = answer(await copy.start());
  assert.equal(root.cache, '/var/cache/ebb/node');
  // By hand, without this launcher's own mark: still complete.
  rmSync(copy.at('project/node_modules/.ebb-package-lock.json'));
  mkdirSync(copy.at('cache'));
  chmodSync(copy.at('cache'), 0o777);
  const cached = await copy.start([], { ...nobody, env: { XDG_CACHE_HOME: copy.at('cache') } });
  assert.equal(answer(cached).cache, copy.at('cache/ebb/node'));
  assert.ok(existsSync(copy.at('cache/ebb/node')));
});

test('compiled code of who has no home to write to is where nobody else can have put any', async () => {
  await using copy = await Copy.make();
  await copy.start();
  // Of nobody else's tests.
  const user = { uid: 64_000 + (process.pid % 1000) };
  const own = `/var/tmp/ebb-${user.uid}`;
  const cacheOf = async (
    env: Readonly<Record<string, string>> = {},
  ): Promise<string | undefined> => {
    const started = await copy.start([], { ...user, env });
    assert.equal(started.stderr.toString(), '');
    return answer(started).cache;
  };
  try {
    assert.equal(await cacheOf({ HOME: '' }), `${own}/node`);
    const { uid, mode } = statSync(own);
    assert.deepEqual([uid, mode & 0o777], [user.uid, 0o700]);
    assert.equal(await cacheOf(), `${own}/node`, 'a home that may not be written to');
    assert.equal(await cacheOf({ XDG_CACHE_HOME: 'cache' }), `${own}/node`, 'no absolute path');
    rmSync(own, { recursive: true });
    mkdirSync(own, { mode: 0o777 });
    assert.equal(await cacheOf(), '', "another user's directory");
    rmSync(own, { recursive: true });
    mkdirSync(copy.at('theirs'));
    chownSync(copy.at('theirs'), user.uid, user.uid);
    symlinkSync(copy.at('theirs'), own);
    assert.equal(await cacheOf(), '', 'a link');
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
});

test('the real program starts', async (context) => {
  const program = path.join(root, 'ebb');
  const version = await run(program, ['--version']);
  assert.equal(version.code, 0, version.stderr.toString());
  assert.match(version.stdout.toString(), /^ebb \d+\.\d+\.\d+\n$/);
  const times: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    const startedAtMs = performance.now();
    await run(program, ['--version']);
    times.push(performance.now() - startedAtMs);
  }
  context.diagnostic(`ebb --version takes ${Math.min(...times).toFixed(0)} ms`);
});

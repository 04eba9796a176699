/**
 * Long random runs against a plain model: readers of all kinds, a remote that changes, releases, remounts, kills,
 * dropped page caches. Rule (close-to-open, --ttl 0): an open sees the version that is current, and that version's
 * bytes or an errno for ever after; opens and reads of the current version succeed.
 *
 * EBB_PROPERTY_STEPS (default 3,000; 100,000 for an acceptance run), EBB_SEED to repeat a run.
 */
import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { compileHelper } from '../probes/probe.ts';
import { ChangingRemote, Random } from '../support/changing-remote.ts';
import type { FileVersion } from '../support/changing-remote.ts';
import { ServingHammer } from '../support/hammer.ts';
import { mountEbb } from '../support/mount.ts';
import type { EbbMount } from '../support/mount.ts';
import { startNginx } from '../support/servers.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const asked = process.env['EBB_PROPERTY_STEPS'];
const steps = Number(asked ?? 3000);
/** A long run is another one each time. */
const seed = Number(process.env['EBB_SEED'] ?? (asked === undefined ? 1 : Date.now() % 1_000_000));
const readers = 4;
const handlesPerReader = 6;
const historyLines = 60;

interface Handle {
  readonly id: number;
  readonly version: FileVersion;
}

/** One reading process and what it has open. */
interface Reader {
  readonly hammer: ServingHammer;
  readonly handles: Handle[];
}

/** EIO, ENOENT, ESTALE: what a reader of a version that the remote no longer has may get. */
const staleErrors = new Set(['errno 5', 'errno 2', 'errno 116']);

class Run implements Disposable {
  readonly #mount: EbbMount;
  readonly #remote: ChangingRemote;
  readonly #random: Random;
  readonly #readers: Reader[];
  readonly #history: string[] = [];
  readonly counts = new Map<string, number>();
  done = 0;
  /** Of daemons, on purpose, since it was mounted. */
  crashes = 0;

  constructor(mount: EbbMount, remote: ChangingRemote, random: Random, helper: string) {
    this.#mount = mount;
    this.#remote = remote;
    this.#random = random;
    this.#readers = Array.from({ length: readers }, () => ({
      hammer: new ServingHammer(helper),
      handles: [],
    }));
  }

  [Symbol.dispose](): void {
    for (const reader of this.#readers) reader.hammer[Symbol.dispose]();
  }

  /** The last steps, newest last. */
  history(): string {
    return this.#history.join('\n');
  }

  async step(): Promise<void> {
    const dice = this.#random.below(1000);
    if (dice < 120) this.#changeRemote();
    else if (dice < 124) await this.#tool();
    else if (dice < 125) await this.#remount();
    else if (dice < 126) await this.#dropCaches();
    else if (dice < 128) await this.#crash();
    else await Promise.all(this.#readers.map((reader) => this.#read(reader)));
  }

  /** Everything once more, from fresh opens. */
  async finish(): Promise<void> {
    await this.#closeAll();
    const [reader] = this.#readers;
    if (reader === undefined) return;
    for (const directory of this.#remote.directories()) await this.#list(reader, directory);
    for (const name of this.#remote.existingNames()) {
      await this.#open(reader, name);
      await this.#use(reader, 0, ({ version }) => `pread 0 0 ${version.sizeBytes + 1}`);
      await this.#closeAll();
    }
  }

  #note(kind: string, line: string): void {
    this.done += 1;
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    this.#history.push(`${this.done} ${line}`);
    if (this.#history.length > historyLines) this.#history.shift();
  }

  #changeRemote(): void {
    const name = this.#random.pick(this.#remote.possibleNames());
    const kinds = ['replace', 'append', 'overwrite', 'delete', 'replace'] as const;
    let kind = this.#random.pick(kinds);
    if (this.#remote.current(name) === undefined) kind = 'replace';
    this.#note(kind, `${kind} ${name}`);
    this.#remote[kind](name);
  }

  async #tool(): Promise<void> {
    const names = this.#remote.existingNames();
    if (names.length === 0) return;
    const name = this.#random.pick(names);
    const verb = this.#random.pick(['release', 'release', 'release', 'get', 'pin', 'unpin']);
    const result = await this.#mount.ebb([verb, path.join(this.#mount.path, name)]);
    this.#note(verb, `ebb ${verb} ${name}: ${result.code}`);
    const said = result.stderr.toString();
    const allowed = verb === 'release' ? [0, 3] : [0];
    assert.ok(allowed.includes(result.code ?? -1), `ebb ${verb} ${name}: ${result.code} ${said}`);
  }

  async #remount(): Promise<void> {
    const kill = this.#random.below(3) === 0;
    this.#note('remount', kill ? 'kill and remount' : 'remount');
    if (kill) await this.#mount.killAll();
    await this.#closeAll();
    if (kill) await this.#mount.detach();
    else await this.#mount.unmount();
    await this.#mount.remount();
    this.crashes = 0;
  }

  /** What is open stays open: another daemon answers whatever comes next. */
  async #crash(): Promise<void> {
    this.#note('crash', 'the daemon is killed');
    this.crashes += 1;
    await this.#mount.currentPid();
    await this.#mount.kill();
  }

  async #dropCaches(): Promise<void> {
    this.#note('drop caches', 'drop caches');
    await writeFile('/proc/sys/vm/drop_caches', '3');
  }

  async #closeAll(): Promise<void> {
    for (const reader of this.#readers) {
      for (const handle of reader.handles.splice(0)) await reader.hammer.ask(`close ${handle.id}`);
    }
  }

  async #read(reader: Reader): Promise<void> {
    const dice = this.#random.below(100);
    const names = this.#remote.possibleNames();
    if (dice < 25 || reader.handles.length === 0) await this.#openSomewhere(reader);
    else if (dice < 35) await this.#stat(reader, this.#random.pick(names));
    else if (dice < 38) await this.#list(reader, this.#random.pick(this.#remote.directories()));
    else await this.#readHandle(reader, dice);
  }

  async #readHandle(reader: Reader, dice: number): Promise<void> {
    const at = this.#random.below(reader.handles.length);
    const [first, second] = [this.#random.below(1 << 20), this.#random.below(1 << 18)];
    const offset = (version: FileVersion): number => first % (version.sizeBytes + 10);
    await this.#use(reader, at, ({ id, version }) => {
      if (dice < 75) return `pread ${id} ${offset(version)} ${1 + (second % 20_000)}`;
      if (dice < 80) return `pread ${id} 0 ${version.sizeBytes + 1}`;
      if (dice < 95) return `mmap ${id} ${offset(version)} ${1 + second}`;
      return `seek ${id}`;
    });
  }

  async #openSomewhere(reader: Reader): Promise<void> {
    if (reader.handles.length >= handlesPerReader) {
      const at = this.#random.below(reader.handles.length);
      const [closed] = reader.handles.splice(at, 1);
      if (closed !== undefined) await reader.hammer.ask(`close ${closed.id}`);
    }
    await this.#open(reader, this.#random.pick(this.#remote.possibleNames()));
  }

  async #open(reader: Reader, name: string): Promise<void> {
    const version = this.#remote.current(name);
    const used = new Set(reader.handles.map((handle) => handle.id));
    const id = [...Array(handlesPerReader).keys()].find((candidate) => !used.has(candidate)) ?? 0;
    const mounted = path.join(this.#mount.path, name);
    const answer = await reader.hammer.ask(
      `open ${id} ${mounted} ${version?.model ?? '/dev/null'}`,
    );
    this.#note('open', `open ${name}: ${answer}`);
    if (version === undefined) {
      assert.equal(answer, 'errno 2', `${name} does not exist`);
      return;
    }
    assert.equal(answer, 'ok 0', `open ${name}`);
    reader.handles.push({ id, version });
  }

  async #stat(reader: Reader, name: string): Promise<void> {
    const version = this.#remote.current(name);
    const mounted = path.join(this.#mount.path, name);
    const answer = await reader.hammer.ask(`stat ${mounted} ${version?.model ?? '/dev/null'}`);
    this.#note('stat', `stat ${name}: ${answer}`);
    const expected = version === undefined ? 'errno 2' : `ok ${version.sizeBytes}`;
    assert.equal(answer, expected, `stat ${name}`);
  }

  async #list(reader: Reader, directory: string): Promise<void> {
    const places = [this.#mount.path, this.#remote.root].map((root) => path.join(root, directory));
    const answer = await reader.hammer.ask(`list ${places.join(' ')}`);
    this.#note('list', `list ${directory}: ${answer}`);
    assert.match(answer, /^ok /, `list ${directory}: ${answer}`);
  }

  /** Runs a command on an open handle: the bytes of its version, or, once that version is gone, an errno. */
  async #use(reader: Reader, at: number, command: (handle: Handle) => string): Promise<void> {
    const handle = reader.handles[at];
    if (handle === undefined) return;
    const line = command(handle);
    const answer = await reader.hammer.ask(line);
    const isCurrent = this.#remote.current(handle.version.name) === handle.version;
    const what = `${line} of ${path.basename(handle.version.model)}${isCurrent ? '' : ' (old)'}`;
    this.#note(line.slice(0, line.indexOf(' ')), `${what}: ${answer}`);
    if (!isCurrent && staleErrors.has(answer)) return;
    assert.match(answer, /^ok /, `${what}: ${answer}`);
  }
}

async function runSteps(mount: EbbMount, remote: ChangingRemote, random: Random, count: number) {
  await using directory = await temporaryDirectory('property-helper');
  const helper = await compileHelper(directory.path, 'hammer');
  using run = new Run(mount, remote, random, helper);
  const startedMs = performance.now();
  try {
    while (run.done < count) await run.step();
    await run.finish();
    assert.equal((await mount.status()).restarts, run.crashes, 'a daemon died by itself');
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const context = `EBB_SEED=${seed}, step ${run.done}\n${run.history()}`;
    throw new Error(`${message}\n${context}\n${await mount.logTail()}`, { cause: error });
  }
  const perSecond = (run.done / (performance.now() - startedMs)) * 1000;
  const counts = [...run.counts].map(([kind, times]) => `${kind} ${times}`).join(', ');
  return `seed ${seed}: ${run.done} steps, ${perSecond.toFixed(0)} per second (${counts})`;
}

test('random steps over a changing directory equal the model', async (context) => {
  await using directory = await temporaryDirectory('property');
  const random = new Random(seed);
  const remote = new ChangingRemote(directory.path, random, 'in place');
  await using mount = await mountEbb({
    remote: remote.root,
    options: ['--ttl', '0'],
    standby: true,
  });
  context.diagnostic(await runSteps(mount, remote, random, steps));
});

test('random steps over a changing web server equal the model', async (context) => {
  await using directory = await temporaryDirectory('property');
  await chmod(directory.path, 0o755);
  const random = new Random(seed + 1);
  const remote = new ChangingRemote(directory.path, random, 'by rename');
  await using origin = await startNginx({ root: remote.root });
  await using mount = await mountEbb({ remote: origin.url, options: ['--ttl', '0'] });
  context.diagnostic(await runSteps(mount, remote, random, Math.ceil(steps / 2)));
});

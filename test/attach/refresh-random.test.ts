/** The model of reconcile-model.test.ts against the real thing: random steps on both sides of a real tree. */
import { StubChange } from '../../src/base/stub-facts.ts';
import assert from 'node:assert/strict';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import { Random } from '../support/changing-remote.ts';
import { recall } from '../tree/support/stubs.ts';
import { Scene } from './populate-scene.ts';

const names = ['a', 'b', 'd/a', 'd/b', 'd/e/a'];
const stepsPerRun = 120;

class Run {
  readonly remote = new MemoryRemote();
  readonly scene: Scene;
  readonly #random: Random;
  readonly #there = new Map<string, string>();
  /** What users wrote, by path. */
  readonly #mine = new Map<string, string>();
  readonly #history: string[] = [];
  #last = 0;

  constructor(seed: number) {
    this.#random = new Random(seed);
    this.scene = new Scene(seed % 2 === 0 ? 'xfs' : 'ext4', this.remote);
  }

  async perform(): Promise<void> {
    await this.scene.populate();
    for (let step = 0; step < stepsPerRun; step += 1) await this.#step();
    await this.#refresh();
  }

  async #step(): Promise<void> {
    const name = this.#random.pick(names);
    const what = this.#random.pick([
      'put',
      'put',
      'drop',
      'recall',
      'write',
      'remove',
      'rename',
      'refresh',
      'refresh',
    ]);
    const to = this.#random.pick(names);
    this.#history.push(`${what} ${name} ${what === 'rename' ? to : ''}`);
    if (what === 'put') this.#put(name);
    else if (what === 'drop') this.#drop(name);
    else if (what === 'recall') await this.#recall(name);
    else if (what === 'write') await this.#write(name);
    else if (what === 'remove') await this.#remove(name);
    else if (what === 'rename') await this.#rename(name, to);
    else await this.#refresh();
  }

  #put(name: string): void {
    this.#last += 1;
    this.#there.set(name, `remote ${this.#last}`);
    this.remote.putFile(name, Buffer.from(`remote ${this.#last}`));
  }

  #drop(name: string): void {
    this.#there.delete(name);
    this.remote.remove(name);
  }

  #file(name: string) {
    const isFile = lstatSync(this.scene.path(name), { throwIfNoEntry: false })?.isFile() === true;
    const record = isFile ? this.scene.record(name) : undefined;
    return record && this.scene.store.get(record.id);
  }

  async #recall(name: string): Promise<void> {
    const file = this.#file(name);
    if (file === undefined || file.change !== StubChange.clean || file.residency.complete) return;
    await recall(file);
    await this.scene.store.settled(file.id);
  }

  /** As the front end does it: recorded before the writer is let in. */
  async #write(name: string): Promise<void> {
    const target = this.scene.path(name);
    const file = this.#file(name);
    this.#last += 1;
    if (file !== undefined) await this.scene.store.setChange(file, StubChange.discarding);
    mkdirSync(path.dirname(target), { recursive: true });
    writeFileSync(target, `user ${this.#last}`);
    if (file !== undefined) await this.scene.store.setChange(file, StubChange.dirty);
    this.#mine.set(name, `user ${this.#last}`);
  }

  async #remove(name: string): Promise<void> {
    if (!existsSync(this.scene.path(name))) return;
    const file = this.#file(name);
    rmSync(this.scene.path(name));
    if (file !== undefined) await this.scene.store.forget([file.id]);
    this.#mine.delete(name);
  }

  async #rename(from: string, to: string): Promise<void> {
    if (from === to || !existsSync(this.scene.path(from))) return;
    await this.#remove(to);
    mkdirSync(path.dirname(this.scene.path(to)), { recursive: true });
    renameSync(this.scene.path(from), this.scene.path(to));
    const mine = this.#mine.get(from);
    this.#mine.delete(from);
    if (mine !== undefined) this.#mine.set(to, mine);
  }

  async #refresh(): Promise<void> {
    const before = new Map(names.map((name) => [name, this.#look(name)]));
    const result = await this.scene.refresh();
    assert.equal(result.failed, 0);
    for (const [name, text] of this.#mine) {
      assert.equal(this.#text(name), text, this.#say(`${name} is a user's`));
    }
    for (const [name, was] of before) {
      const now = this.#look(name);
      if (was?.isWhole === true && !this.#there.has(name)) {
        assert.deepEqual(now, was, this.#say(`${name} may be the last copy`));
      }
      const version = this.#file(name)?.version;
      const isNew = now !== undefined && was?.inode !== now.inode;
      if (isNew)
        assert.equal(
          now.sizeBytes,
          this.#there.get(name)?.length,
          this.#say(`${name}: ${version}`),
        );
    }
    assert.deepEqual(readdirSync(path.join(this.scene.tree.path, '.ebb/new')), []);
    const again = await this.scene.refresh();
    const changes = [again.stubs, again.replaced, again.removed];
    assert.deepEqual(changes, [0, 0, 0], this.#say('twice is once'));
  }

  #look(name: string) {
    const found = lstatSync(this.scene.path(name), { throwIfNoEntry: false });
    if (found?.isFile() !== true) return undefined;
    const file = this.#file(name);
    const isWhole =
      file === undefined || file.residency.complete || file.change === StubChange.dirty;
    return { inode: found.ino, sizeBytes: found.size, isWhole };
  }

  #text(name: string): string {
    return existsSync(this.scene.path(name)) ? readFileSync(this.scene.path(name), 'utf8') : '';
  }

  #say(what: string): string {
    return `${what}, after:\n${this.#history.join('\n')}`;
  }
}

for (const seed of [1, 2, 3, 4]) {
  test(`random steps on both sides lose nothing (seed ${seed})`, async () => {
    const run = new Run(seed);
    using _scene = run.scene;
    await run.perform();
  });
}

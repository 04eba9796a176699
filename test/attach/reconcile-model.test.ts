/** A model of a directory on both sides, in which nothing may ever get lost. */
import { StubChange } from '../../src/base/stub-facts.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { reconcile } from '../../src/attach/reconcile.ts';
import type { DirectoryPlan, LocalEntry } from '../../src/attach/reconcile.ts';
import type { KnownKey, StubRecord } from '../../src/catalog/stub-catalog.ts';
import { stubRecord as record } from './stub-record.ts';

/** A directory of files on both sides; contents are strings, and each has been written by somebody. */
class World {
  readonly remote = new Map<string, { version: string; content: string }>();
  /** `record` undefined: a user's own. `content`: what is here; undefined: nothing of it. */
  readonly local = new Map<string, { id: number; content: string | undefined; mine: boolean }>();
  readonly records = new Map<number, StubRecord>();
  readonly known = new Map<string, KnownKey>();
  /** Contents that users wrote here and did not delete themselves. */
  readonly precious = new Set<string>();
  #next = 1;
  #isFirst = true;

  next(): number {
    this.#next += 1;
    return this.#next;
  }

  refresh(): void {
    const local = new Map<string, LocalEntry>();
    for (const [name, { id }] of this.local) {
      local.set(name, { kind: 'file', record: this.records.get(id) });
    }
    const plan = reconcile({
      key: '',
      listed: [...this.remote].map(([name, { version }]) => ({
        name,
        kind: 'file' as const,
        sizeBytes: 4,
        version,
      })),
      skipped: [],
      local,
      isFirst: this.#isFirst,
      recordOf: (key) =>
        [...this.records.values()]
          .filter((one) => one.key === key)
          .toSorted((a, b) => b.id - a.id)[0],
      knownOf: (key) => this.known.get(key),
      wasListed: () => false,
    });
    this.#isFirst = false;
    this.#carryOut(plan);
  }

  #carryOut(plan: DirectoryPlan): void {
    for (const { object, replaces } of plan.files) {
      const id = this.next();
      if (replaces !== undefined) this.records.delete(replaces.id);
      else assert.ok(!this.local.has(object.name), 'a stub takes no name of others');
      const { name, version, sizeBytes } = object;
      this.records.set(id, record({ id, key: name, version, sizeBytes }));
      this.local.set(name, { id, content: undefined, mine: false });
    }
    for (const step of plan.removed) {
      assert.ok('record' in step);
      assert.equal(
        this.local.get(step.name)?.content,
        undefined,
        'only what is not here is removed',
      );
      this.local.delete(step.name);
      this.records.delete(step.record.id);
      this.known.delete(step.name);
    }
    for (const id of plan.lostIds) this.#amend(id, { lost: true });
    for (const id of plan.foundIds) this.#amend(id, { lost: false });
  }

  #amend(id: number, part: Partial<StubRecord>): void {
    const before = this.records.get(id);
    assert.ok(before !== undefined);
    this.records.set(id, { ...before, ...part });
  }

  recall(name: string): void {
    const here = this.local.get(name);
    const found = here && this.records.get(here.id);
    const there = found && this.remote.get(found.key);
    if (!here || !found || found.change !== StubChange.clean || there?.version !== found.version)
      return;
    here.content = there.content;
    this.#amend(found.id, { complete: true, residentBytes: 4 });
  }

  write(name: string): void {
    const content = `user ${this.next()}`;
    const here = this.local.get(name);
    if (here?.content !== undefined) this.precious.delete(here.content);
    if (here === undefined) this.local.set(name, { id: 0, content, mine: true });
    else {
      if (this.records.has(here.id)) this.#amend(here.id, { change: StubChange.dirty });
      this.local.set(name, { id: here.id, content, mine: true });
    }
    this.precious.add(content);
  }

  remove(name: string): void {
    const here = this.local.get(name);
    if (here === undefined) return;
    if (here.content !== undefined) this.precious.delete(here.content);
    const found = this.records.get(here.id);
    if (found !== undefined) {
      this.records.delete(found.id);
      this.known.set(found.key, { key: found.key, version: found.version, id: 0 });
    }
    this.local.delete(name);
  }

  rename(from: string, to: string): void {
    const here = this.local.get(from);
    if (here === undefined || from === to) return;
    this.remove(to);
    this.local.delete(from);
    this.local.set(to, here);
  }
}

const name = fc.constantFrom('a', 'b', 'c');
const steps = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant('refresh' as const) }),
    fc.record({ do: fc.constantFrom('put', 'drop', 'recall', 'write', 'remove'), name }),
    fc.record({ do: fc.constant('rename' as const), name, to: name }),
  ),
  { maxLength: 40 },
);

test('whatever happens on both sides: nothing of a user and no last copy is lost, nothing deleted comes back', () => {
  fc.assert(
    fc.property(steps, (history) => {
      const world = new World();
      for (const step of history) {
        if (step.do === 'put') {
          const version = `v${world.next()}`;
          world.remote.set(step.name, { version, content: `remote ${version}` });
        } else if (step.do === 'drop') world.remote.delete(step.name);
        else if (step.do === 'recall') world.recall(step.name);
        else if (step.do === 'write') world.write(step.name);
        else if (step.do === 'remove') world.remove(step.name);
        else if (step.do === 'rename') world.rename(step.name, step.to);
        else refreshAndCheck(world);
      }
      refreshAndCheck(world);
    }),
    { numRuns: 3_000 },
  );
});

function refreshAndCheck(world: World): void {
  const before = new Map([...world.local].map(([key, value]) => [key, { ...value }]));
  const buried = new Map(world.known);
  world.refresh();
  const contents = new Set([...world.local.values()].map(({ content }) => content));
  for (const content of world.precious) assert.ok(contents.has(content), `lost: ${content}`);
  for (const [key, { content, mine }] of before) {
    const now = world.local.get(key);
    if (mine) assert.equal(now?.content, content, "a user's file stays where it is");
    const stillThere = [...world.remote.values()].some((one) => one.content === content);
    if (content === undefined || mine || stillThere || world.remote.has(key)) continue;
    assert.equal(now?.content, content, 'what the remote has no longer stays');
  }
  for (const [key, { version }] of buried) {
    if (world.remote.get(key)?.version !== version) continue;
    assert.equal(world.local.has(key), before.has(key), 'what was deleted here stays deleted');
  }
  const settled = [...world.local];
  world.refresh();
  assert.deepEqual([...world.local], settled, 'twice is once');
}

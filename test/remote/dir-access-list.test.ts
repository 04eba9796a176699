import assert from 'node:assert/strict';
import { test } from 'node:test';
import { modeWithin } from '../../src/remote/dir/access-list.ts';

const tags = { u: 1, user: 2, g: 4, group: 8, mask: 16, o: 32 } as const;
type Entry = readonly [tag: keyof typeof tags, bits: number, id?: number];

/** As the kernel gives it: getfattr -n system.posix_acl_access. */
function list(...entries: readonly Entry[]): Uint8Array {
  const bytes = new Uint8Array(4 + entries.length * 8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 2, true);
  for (const [index, [tag, bits, id = 0xffff_ffff]] of entries.entries()) {
    view.setUint16(4 + index * 8, tags[tag], true);
    view.setUint16(6 + index * 8, bits, true);
    view.setUint32(8 + index * 8, id, true);
  }
  return bytes;
}

interface Person {
  readonly uid: number;
  readonly gids: readonly number[];
}

const owner = { uid: 1, gid: 10 };

/** acl(5), ACCESS CHECK ALGORITHM. */
function mayByList(person: Person, want: number, entries: readonly Entry[]): boolean {
  const mask = entries.find(([tag]) => tag === 'mask')?.[1] ?? 7;
  const allows = (bits: number): boolean => (bits & want) === want;
  const of = (tag: keyof typeof tags): number => entries.find(([one]) => one === tag)?.[1] ?? 0;
  if (person.uid === owner.uid) return allows(of('u'));
  const named = entries.find(([tag, , id]) => tag === 'user' && id === person.uid);
  if (named !== undefined) return allows(named[1] & mask);
  const groups = entries.filter(
    ([tag, , id]) =>
      (tag === 'g' && person.gids.includes(owner.gid)) ||
      (tag === 'group' && person.gids.includes(id ?? -1)),
  );
  if (groups.length > 0) return groups.some(([, bits]) => allows(bits & mask));
  return allows(of('o'));
}

function mayByMode({ uid, gids }: Person, want: number, mode: number): boolean {
  const shift = uid === owner.uid ? 6 : gids.includes(owner.gid) ? 3 : 0;
  return ((mode >> shift) & want) === want;
}

test('whatever a list says, the mode allows nobody more', () => {
  let seed = 12_345;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % below;
  };
  const people: Person[] = [];
  for (const uid of [1, 2, 3, 4]) {
    for (const gids of [[10], [20], [30], [10, 20], [20, 30], [40]]) people.push({ uid, gids });
  }
  let allowed = 0;
  for (let round = 0; round < 3_000; round += 1) {
    const entries: Entry[] = [['u', random(8)]];
    for (const uid of [2, 3]) if (random(2) === 0) entries.push(['user', random(8), uid]);
    entries.push(['g', random(8)]);
    for (const gid of [20, 30]) if (random(2) === 0) entries.push(['group', random(8), gid]);
    const hasMask = entries.length > 2;
    const mask = random(8);
    if (hasMask) entries.push(['mask', mask]);
    entries.push(['o', random(8)]);
    const of = (tag: string): number => entries.find(([one]) => one === tag)?.[1] ?? 0;
    const mode = 0o1000 | (of('u') << 6) | ((hasMask ? mask : of('g')) << 3) | of('o');
    const within = modeWithin(mode, list(...entries));
    assert.equal(within & 0o7700, mode & 0o7700);
    if (!hasMask) assert.equal(within, mode);
    for (const person of people) {
      for (const want of [1, 2, 4, 5, 6, 7]) {
        if (!mayByMode(person, want, within)) continue;
        allowed += 1;
        const why = `${JSON.stringify(person)} ${want} ${within.toString(8)} ${JSON.stringify(entries)}`;
        assert.ok(mayByList(person, want, entries), why);
      }
    }
  }
  assert.ok(allowed > 10_000, `${allowed} accesses were allowed`);
});

test('what is no list leaves the owner alone', () => {
  for (const bytes of [[], [2, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0, 1]]) {
    assert.equal(modeWithin(0o4775, Uint8Array.from(bytes)), 0o4700);
  }
});

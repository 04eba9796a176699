import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  decideAccess,
  decideOpen,
  defaultNativePolicy,
  Verdicts,
} from '../../src/native/policy.ts';
import type { NativeVerdict } from '../../src/native/options.ts';
import type { AskerFacts, Decision, FileFacts } from '../../src/native/policy.ts';

const MiB = 1024 * 1024;

const file: FileFacts = {
  state: 'clean',
  versionSizeBytes: 100 * MiB,
  sizeBytes: 100 * MiB,
  complete: false,
  executable: false,
  throughLayer: false,
  hasPoison: true,
};
const reader: AskerFacts = {
  effect: 'reads',
  streams: true,
  maps: false,
  verdict: 'allow',
  looksForHoles: false,
};

function opens(facts: Partial<FileFacts>, asker: Partial<AskerFacts> = {}): Decision {
  return decideOpen({ ...file, ...facts }, { ...reader, ...asker }, defaultNativePolicy);
}

function uses(
  offsetBytes: number,
  countBytes: number,
  asker: Partial<AskerFacts> = {},
  facts: Partial<FileFacts> = {},
): Decision {
  const range = { offsetBytes, countBytes };
  return decideAccess({ ...file, ...facts }, { ...reader, ...asker }, range, defaultNativePolicy);
}

function sized(sizeBytes: number): Partial<FileFacts> {
  return { sizeBytes, versionSizeBytes: sizeBytes };
}

test('opening to read brings small files and programs, and of big ones nothing', () => {
  assert.equal(opens({}).kind, 'allow');
  const small = opens(sized(MiB));
  assert.deepEqual(small, {
    kind: 'recall',
    offsetBytes: 0,
    lengthBytes: MiB,
    stream: false,
    exact: false,
  });
  assert.equal(opens(sized(MiB + 1)).kind, 'allow');
  assert.equal(opens({ ...sized(64 * MiB), executable: true }).kind, 'recall');
  assert.equal(opens({ ...sized(64 * MiB + 1), executable: true }).kind, 'allow');
});

test('who opens a file through a layer, whose mappings nobody hears of, gets all of it', () => {
  assert.equal(opens({ throughLayer: true }).kind, 'recall');
  assert.equal(opens({ throughLayer: true }, { verdict: 'exact' }).kind, 'recall');
  assert.equal(opens({ throughLayer: true }, { verdict: { deny: 'EPERM' } }).kind, 'deny');
});

test('programs that look for holes get whole files where holes can be seen', () => {
  assert.equal(opens({ hasPoison: false }, { looksForHoles: true }).kind, 'recall');
  assert.equal(
    opens({ hasPoison: false }, { looksForHoles: true, verdict: 'exact' }).kind,
    'recall',
  );
  assert.equal(opens({ hasPoison: true }, { looksForHoles: true }).kind, 'allow');
});

test('who may write gets in after the whole file, who empties it after nothing', () => {
  for (const effect of ['writes', 'unknown', 'deferred'] as const)
    assert.equal(opens({}, { effect }).kind, 'intend', effect);
  assert.equal(opens({}, { effect: 'discards' }).kind, 'discard');
  assert.equal(uses(0, 0, { effect: 'discards' }).kind, 'discard');
  assert.equal(uses(4096, 4096, { effect: 'writes' }).kind, 'intend');
  assert.equal(uses(4096, 4096, { effect: 'unknown' }).kind, 'intend');
});

test('a range is what the file has of it; count 0 is all of it; io_uring reads', () => {
  const size = 100 * MiB;
  assert.deepEqual(uses(4096, 8192), {
    kind: 'recall',
    offsetBytes: 4096,
    lengthBytes: 8192,
    stream: true,
    exact: false,
  });
  const to = (decision: Decision): readonly number[] =>
    decision.kind === 'recall' ? [decision.offsetBytes, decision.lengthBytes] : [];
  assert.deepEqual(to(uses(size - 5, 2 ** 40)), [size - 5, 5]);
  assert.deepEqual(to(uses(0, 0)), [0, size]);
  assert.deepEqual(to(uses(4096, 0)), [0, size]);
  assert.deepEqual(to(uses(0, 4096, { effect: 'deferred' })), [0, 4096]);
  assert.deepEqual(to(decideAccess(file, reader, undefined, defaultNativePolicy)), [0, size]);
  assert.equal(uses(size, 4096).kind, 'allow');
});

test('a mapping of a part brings all of a file that is not huge: nothing tells when it grows', () => {
  const maps = { maps: true, streams: false };
  const lengthOf = (decision: Decision): number =>
    decision.kind === 'recall' ? decision.lengthBytes : -1;
  assert.equal(lengthOf(uses(4096, 4096, maps, sized(64 * MiB))), 64 * MiB);
  assert.equal(lengthOf(uses(4096, 4096, maps)), 4096);
  assert.equal(lengthOf(uses(4096, 4096, { ...maps, verdict: 'exact' }, sized(5 * MiB))), 4096);
});

test('verdicts: exact has no read-ahead and no whole files, whole is whole, deny is its errno', () => {
  assert.deepEqual(uses(0, 4096, { verdict: 'exact' }), {
    kind: 'recall',
    offsetBytes: 0,
    lengthBytes: 4096,
    stream: false,
    exact: true,
  });
  assert.equal(opens(sized(5), { verdict: 'exact' }).kind, 'allow');
  assert.equal(opens({}, { verdict: 'whole' }).kind, 'recall');
  const verdict = { deny: 'EBUSY' } as const;
  assert.deepEqual(opens({}, { verdict }), { kind: 'deny', code: 'EBUSY' });
  assert.deepEqual(uses(0, 1, { verdict }), { kind: 'deny', code: 'EBUSY' });
  assert.equal(opens({ state: 'settled' }, { verdict }).kind, 'allow', 'what is here is free');
});

test('what was changed past us is never recalled into', () => {
  assert.equal(uses(0, 4096, {}, { sizeBytes: 0 }).kind, 'disown');
  assert.equal(uses(0, 4096, {}, { sizeBytes: 5 }).kind, 'damaged');
  assert.equal(opens({ sizeBytes: 5 }, { effect: 'discards' }).kind, 'disown');
  assert.equal(opens({ sizeBytes: 5, complete: true }).kind, 'disown', 'nothing is missing');
});

const anyFile = fc.record({
  state: fc.constantFrom('settled', 'clean', 'discarding'),
  versionSizeBytes: fc.nat(2 ** 31 - 1),
  sizeBytes: fc.nat(2 ** 31 - 1),
  complete: fc.boolean(),
  executable: fc.boolean(),
  throughLayer: fc.boolean(),
  hasPoison: fc.boolean(),
} as const);
const anyAsker = fc.record({
  effect: fc.constantFrom('reads', 'writes', 'discards', 'deferred', 'unknown'),
  streams: fc.boolean(),
  maps: fc.boolean(),
  verdict: fc.constantFrom<NativeVerdict>('allow', 'exact', 'whole', { deny: 'EPERM' }),
  looksForHoles: fc.boolean(),
} as const);

test('property: every decision is safe, whatever the facts', () => {
  fc.assert(
    fc.property(
      anyFile,
      fc.boolean(),
      anyAsker,
      fc.nat(2 ** 31 - 1),
      fc.nat(2 ** 31 - 1),
      (facts, sameSize, asker, offsetBytes, countBytes) => {
        const known = sameSize ? { ...facts, sizeBytes: facts.versionSizeBytes } : facts;
        const range = { offsetBytes, countBytes };
        const atOpen = decideOpen(known, asker, defaultNativePolicy);
        const atAccess = decideAccess(known, asker, range, defaultNativePolicy);
        for (const decision of [atOpen, atAccess]) checkSafe(known, asker, decision);
        if (atAccess.kind === 'recall') {
          const wanted =
            countBytes === 0
              ? [0, known.versionSizeBytes]
              : [offsetBytes, offsetBytes + countBytes];
          const end = atAccess.offsetBytes + atAccess.lengthBytes;
          assert.ok(atAccess.offsetBytes <= (wanted[0] ?? 0));
          assert.ok(end >= Math.min(wanted[1] ?? 0, known.versionSizeBytes));
          assert.ok(end <= known.versionSizeBytes);
        }
      },
    ),
  );
});

function checkSafe(known: FileFacts, asker: AskerFacts, decision: Decision): void {
  const { kind } = decision;
  const recalls = kind === 'recall' || kind === 'intend';
  if (known.state !== 'clean') assert.ok(!recalls, 'only clean files are recalled into');
  if (known.sizeBytes !== known.versionSizeBytes)
    assert.ok(!recalls, 'another size is another file');
  const denied = typeof asker.verdict === 'object';
  if (denied) assert.ok(!recalls, 'a denied requester moves no byte');
  if (known.state === 'clean' && known.sizeBytes === known.versionSizeBytes && !denied) {
    if (asker.effect === 'discards') assert.equal(kind, 'discard');
    if (asker.effect === 'writes' || asker.effect === 'unknown') assert.equal(kind, 'intend');
  }
}

test('the defaults: indexers get nothing, scanners ranges, backups whole files; the first rule wins', () => {
  const verdicts = new Verdicts(defaultNativePolicy);
  assert.deepEqual(verdicts.of('/usr/bin/updatedb.plocate', 'updatedb.plocat'), { deny: 'EPERM' });
  assert.deepEqual(verdicts.of('/usr/libexec/tracker-miner-fs-3', 'pool'), { deny: 'EPERM' });
  assert.deepEqual(verdicts.of('/usr/bin/evince-thumbnailer', ''), { deny: 'EPERM' });
  assert.equal(verdicts.of('/usr/sbin/clamd', 'clamd'), 'exact');
  assert.equal(verdicts.of('/usr/bin/restic', 'restic'), 'whole');
  assert.equal(verdicts.of('/usr/bin/python3.13', 'borg'), 'whole', 'a script by its name');
  assert.equal(verdicts.of('/usr/bin/cat', 'cat'), 'allow');
  assert.equal(verdicts.of(undefined, ''), 'allow');
  assert.ok(verdicts.looksForHoles('/usr/bin/cp', 'cp'));
  assert.ok(verdicts.looksForHoles('/usr/bin/tar', 'any'));
  assert.ok(verdicts.looksForHoles('/usr/bin/coreutils', 'cp'), 'one program that is all of them');
  assert.ok(!verdicts.looksForHoles('/usr/bin/coreutils', 'cat'));
  assert.ok(verdicts.looksForHoles('/usr/bin/ganesha.nfsd', 'svc_1'), 'for its clients');
  assert.ok(verdicts.looksForHoles(undefined, 'nfsd'), 'a thread of the kernel');
  assert.ok(
    !verdicts.looksForHoles('/usr/bin/cat', 'cat') && !verdicts.looksForHoles(undefined, ''),
  );
  const own = new Verdicts({
    holeProbers: [],
    verdicts: [{ executable: '/opt/*/restic', verdict: 'exact' }, ...defaultNativePolicy.verdicts],
  });
  assert.equal(own.of('/opt/new/restic', 'restic'), 'exact');
  assert.equal(own.of('/usr/bin/restic', 'restic'), 'whole');
});

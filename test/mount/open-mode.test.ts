/** The open-mode state machine never asks the kernel for a combination that fs/fuse/iomode.c refuses. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { afterOpen, afterRelease, chooseMode, noOpens } from '../../src/mount/open-mode.ts';
import type { OpenCounts, OpenMode } from '../../src/mount/open-mode.ts';

type Step =
  | { readonly kind: 'open' }
  | { readonly kind: 'close'; readonly which: number }
  | { readonly kind: 'arrive' }
  | { readonly kind: 'lose' };

const step = fc.oneof(
  fc.constant<Step>({ kind: 'open' }),
  fc.record({ kind: fc.constant('close' as const), which: fc.nat() }),
  fc.constant<Step>({ kind: 'arrive' }),
  fc.constant<Step>({ kind: 'lose' }),
);

test('cached and passthrough opens of one inode never overlap', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.boolean(), (steps, allowed) => {
      let counts: OpenCounts = noOpens;
      let resident = false;
      const open: OpenMode[] = [];
      for (const action of steps) {
        if (action.kind === 'arrive') resident = true;
        if (action.kind === 'lose') resident = false;
        if (action.kind === 'open') {
          const mode = chooseMode(counts, resident, allowed);
          assert.equal(mode === undefined, !resident && open.includes('passthrough'));
          if (!allowed || !resident) assert.notEqual(mode, 'passthrough');
          if (mode === undefined) continue;
          counts = afterOpen(counts, mode);
          open.push(mode);
        }
        if (action.kind === 'close' && open.length > 0) {
          const [mode] = open.splice(action.which % open.length, 1);
          if (mode !== undefined) counts = afterRelease(counts, mode);
        }
        assert.ok(!(open.includes('cached') && open.includes('passthrough')));
        assert.equal(counts.cached, open.filter((mode) => mode === 'cached').length);
        assert.equal(counts.passthrough, open.filter((mode) => mode === 'passthrough').length);
      }
    }),
  );
});

test('a resident file passes through as soon as its last cached open is gone, not before', () => {
  let counts = afterOpen(noOpens, 'cached');
  assert.equal(chooseMode(counts, true, true), 'cached');
  counts = afterRelease(counts, 'cached');
  assert.equal(chooseMode(counts, true, true), 'passthrough');
});

test('a release that was never opened is a bug that shows', () => {
  assert.throws(() => afterRelease(noOpens, 'cached'), RangeError);
});

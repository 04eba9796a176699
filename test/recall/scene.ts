/** An engine over a held remote and one local file; leaving it checks that nothing is left behind. */
import assert from 'node:assert/strict';
import { ManualClock } from '../../src/base/clock.ts';
import { RecallEngine } from '../../src/recall/engine.ts';
import type { RecallEngineOptions } from '../../src/recall/options.ts';
import { chunk, HeldRemote, LocalFile } from './support.ts';
import type { LocalFileOptions } from './support.ts';

export interface Scene extends AsyncDisposable {
  readonly remote: HeldRemote;
  readonly file: LocalFile;
  readonly engine: RecallEngine;
  readonly clock: ManualClock;
}

export function scene(
  sizeBytes: number,
  options: Partial<RecallEngineOptions> = {},
  file: Partial<LocalFileOptions> = {},
): Scene {
  const remote = new HeldRemote(sizeBytes);
  const local = new LocalFile({ sizeBytes, ...file });
  const clock = new ManualClock();
  const engine = new RecallEngine({ remote, clock, ...options });
  return {
    remote,
    file: local,
    engine,
    clock,
    async [Symbol.asyncDispose]() {
      await engine.close();
      assert.equal(remote.active, 0);
      assert.deepEqual(engine.flights(), []);
      assert.equal(engine.totals().waiting, 0);
      assert.equal(engine.isBusy(local.id), false);
      assert.deepEqual(local.wrongChunks(1), []);
      local[Symbol.dispose]();
    },
  };
}

/** The ranges asked of the remote, in chunks. */
export function asked(remote: HeldRemote): string[] {
  return remote.seen.map(({ offsetBytes, lengthBytes }) => {
    const first = offsetBytes / chunk;
    if (lengthBytes === undefined) return `${first}..`;
    return `${first}+${Math.ceil(lengthBytes / chunk)}`;
  });
}

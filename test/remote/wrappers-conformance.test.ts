/**
 * Every wrapper, and all of them on top of each other, keep the contract that the inner remote
 * keeps.
 */
import { checkedRemote } from '../../src/remote/checked.ts';
import { faultyRemote } from '../../src/remote/fault.ts';
import { limitedRemote } from '../../src/remote/limit.ts';
import type { Remote } from '../../src/remote/remote.ts';
import { retryingRemote } from '../../src/remote/retry.ts';
import { seededFaults } from '../../src/remote/seeded-faults.ts';
import { tracedRemote } from '../../src/remote/trace.ts';
import { remoteConformance } from '../conformance/remote.ts';
import { directoryFixture, memoryFixture } from '../support/remote-fixtures.ts';

const small = { bigFileBytes: 5 * 1024 * 1024 + 1, manyEntries: 1000, randomRanges: 25 };
const quick = { attemptsMax: 40, baseMs: 1, maxMs: 2 };

const faults = (seed: number, remote: Remote): Remote =>
  faultyRemote(
    remote,
    seededFaults(seed, { error: 0.15, broken: 0.3, delay: 0.1, brokenMaxBytes: 300_000 }),
  );

remoteConformance('checked(memory)', async () => memoryFixture(checkedRemote), small);
remoteConformance(
  'limit(memory)',
  async () =>
    memoryFixture((remote) => limitedRemote(remote, { requestsMax: 2, bytesPerSecond: 2e9 })),
  small,
);
remoteConformance(
  'trace(memory)',
  async () => memoryFixture((remote) => tracedRemote(remote, { onRequest: () => {} })),
  small,
);
for (const seed of [1, 2, 3]) {
  remoteConformance(
    `retry(fault(memory)), seed ${seed}`,
    async () => memoryFixture((remote) => retryingRemote(faults(seed, remote), quick)),
    small,
  );
}
remoteConformance(
  'checked(retry(checked(limit(trace(fault(dir))))))',
  () =>
    directoryFixture((remote) => {
      const traced = tracedRemote(faults(4, remote), { onRequest: () => {} });
      const limited = limitedRemote(traced, { requestsMax: 8 });
      return checkedRemote(retryingRemote(checkedRemote(limited), quick));
    }),
  small,
);

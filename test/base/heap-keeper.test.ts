/** What a thread that has done much gives back; in a process of its own, for heaps are a process's. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { runOk } from '../support/run.ts';

const keeper = path.join(import.meta.dirname, '../../src/base/heap-keeper.ts');

/** Runs `body` where `HeapKeeper` and `residentMebibytes` are known, and gives what it said. */
async function inProcess(body: string): Promise<unknown> {
  const script = `
    import { HeapKeeper } from ${JSON.stringify(keeper)};
    const { rss } = process.memoryUsage;
    const mebibytes = () => Math.round(rss() / 2 ** 20);
    let held;
    const fill = () => (held = Array.from({ length: 400_000 }, (_, index) => ({ index, name: 'n' + index })));
    const keeper = new HeapKeeper();
    console.log(JSON.stringify([${body}]));`;
  const parameters = ['--input-type=module', '--eval', script];
  return JSON.parse((await runOk(process.execPath, parameters)).stdout.toString());
}

test('a heap that has grown is collected when its thread does nothing, and the memory is given back', async () => {
  const said = await inProcess(
    `keeper.look(), fill() && mebibytes(), keeper.look(), (held = undefined) ?? keeper.look(),
      mebibytes(), keeper.look()`,
  );
  const [atFirst, fullMebibytes, busy, quiet, leftMebibytes, again] = said as unknown[];
  assert.deepEqual([atFirst, busy, quiet, again], [false, false, true, false]);
  assert.ok(Number(leftMebibytes) < Number(fullMebibytes) - 15, JSON.stringify(said));
});

test('a heap whose growth is bounded stays smaller while much is thrown away', async () => {
  const churn = `
    const live = Array.from({ length: 60_000 }, (_, index) => ({ index, name: 'n' + index }));
    let mostBytes = 0;
    for (let round = 0; round < 60; round += 1) {
      const thrown = Array.from({ length: 20_000 }, (_, index) => ({ index, name: round + 'x' + index }));
      mostBytes = Math.max(mostBytes, v8.getHeapStatistics().total_heap_size);
    }
    console.log(live.length && mostBytes);`;
  const mostBytes = async (first: string): Promise<number> => {
    const script = `
      import v8 from 'node:v8';
      import { boundHeapGrowth } from ${JSON.stringify(keeper)};
      ${first};${churn}`;
    const parameters = ['--max-semi-space-size=2', '--input-type=module', '--eval', script];
    return Number((await runOk(process.execPath, parameters)).stdout.toString());
  };
  const bounded = await mostBytes('boundHeapGrowth()');
  const unbounded = await mostBytes('');
  assert.ok(bounded < 0.8 * unbounded, `${bounded} of ${unbounded}`);
});

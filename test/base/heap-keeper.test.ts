/** What a thread that has done much gives back; in a process of its own, for heaps are a process's. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { runOk } from '../support/run.ts';

const keeper = path.join(import.meta.dirname, '../../src/base/heap-keeper.ts');

/** Runs `body` where `HeapKeeper` and `residentMebibytes` are known, and gives what it said. */
async function inProcess(flags: readonly string[], body: string): Promise<unknown> {
  const script = `
    import { HeapKeeper } from ${JSON.stringify(keeper)};
    const { rss } = process.memoryUsage;
    const mebibytes = () => Math.round(rss() / 2 ** 20);
    let held;
    const fill = () => (held = Array.from({ length: 400_000 }, (_, index) => ({ index, name: 'n' + index })));
    const keeper = new HeapKeeper();
    console.log(JSON.stringify([${body}]));`;
  const parameters = [...flags, '--input-type=module', '--eval', script];
  return JSON.parse((await runOk(process.execPath, parameters)).stdout.toString());
}

test('a heap that has grown is collected when its thread does nothing, and the memory is given back', async () => {
  const said = await inProcess(
    ['--expose-gc'],
    `keeper.look(), fill() && mebibytes(), keeper.look(), (held = undefined) ?? keeper.look(),
      mebibytes(), keeper.look()`,
  );
  const [atFirst, fullMebibytes, busy, quiet, leftMebibytes, again] = said as unknown[];
  assert.deepEqual([atFirst, busy, quiet, again], [false, false, true, false]);
  assert.ok(Number(leftMebibytes) < Number(fullMebibytes) - 15, JSON.stringify(said));
});

test('without the switch nothing is collected, and nothing fails', async () => {
  const said = await inProcess([], `keeper.look(), fill().length, keeper.look(), keeper.look()`);
  assert.deepEqual(said, [false, 400_000, false, false]);
});

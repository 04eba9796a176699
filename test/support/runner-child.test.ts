import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { runOk } from './run.ts';
import { temporaryDirectory } from './temporary.ts';

const child = path.join(import.meta.dirname, 'runner-child.ts');

test('what a test has left open does not keep its process, but hooks that clean up come to their end', async () => {
  await using directory = await temporaryDirectory('runner');
  const done = path.join(directory.path, 'done');
  for (const [name, cleanUp] of [
    ['without.test.ts', ''],
    ['with.test.ts', `after(() => sleep(1_500).then(() => writeFileSync('${done}', '')));`],
  ] as const) {
    const file = path.join(directory.path, name);
    writeFileSync(
      file,
      `import { writeFileSync } from 'node:fs';
       import { createServer } from 'node:net';
       import { after, test } from 'node:test';
       import { setTimeout as sleep } from 'node:timers/promises';
       test('leaves something open', () => void createServer().listen(0, '127.0.0.1'));
       ${cleanUp}`,
    );
    const { stdout } = await runOk(process.execPath, [`--import=${child}`, file]);
    assert.match(stdout.toString(), /leaves something open/);
  }
  assert.ok(existsSync(done));
});

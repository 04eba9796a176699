/** The shell that takes a mount away when its broker is killed, while there is no mount yet. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const keeper = path.join(import.meta.dirname, '../../src/image/broker/keeper.ts');

test('the keeper of a broker that dies before there is a mount ends, and takes nothing away', async () => {
  await using directory = await temporaryDirectory('keeper');
  const script = `
    import { MountKeeper } from ${JSON.stringify(keeper)};
    new MountKeeper(${JSON.stringify(directory.path)}, true);
    console.log('started');
    process.kill(process.pid, 'SIGKILL');`;
  await runOk('mount', ['-t', 'tmpfs', 'tmpfs', directory.path]);
  try {
    const words = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script];
    const { stdout } = await run(process.execPath, words);
    assert.equal(stdout.toString(), 'started\n');
    const pattern = `ebb-image-keeper.*${directory.path}`;
    await waitFor(async () => (await run('pgrep', ['-f', pattern])).stdout.length === 0, {
      what: 'the end of the keeper',
    });
    assert.equal((await run('mountpoint', ['-q', directory.path])).code, 0);
  } finally {
    await run('umount', [directory.path]);
  }
});

/**
 * An image of very many inodes. EBB_IMAGE_INODES: how many (1,000,000 take ten minutes). Needs root.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mountImage } from '../image/fixture.ts';
import { loopMount } from '../support/loop-mount.ts';
import { imageOfInodes } from '../support/many-inodes.ts';
import { peakMebibytes } from '../support/process-costs.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const inodes = Number(process.env['EBB_IMAGE_INODES'] ?? 6_000);
const residentMaxMebibytes = 512;
const patient = { timeoutMs: 3_600_000 };

const files = "-printf '%P %y %m %n %s %b %i %T@ %C@\\n'";
/** Natively a directory has another size, and everything one time, another number and blocks by its size. */
const native = "-type d -printf '%P %y %m %n %T@\\n' -o -printf '%P %y %m %n %s %T@\\n'";

/** How many names find has, and a sum of all that it says of them. */
async function listing(root: string, print: string): Promise<string> {
  const script =
    `cd "$0" && find . -path ./lost+found -prune -o ${print} | LC_ALL=C sort | ` +
    `awk '{ print; count += 1 } END { print count > "/dev/stderr" }' | sha256sum`;
  const { stdout, stderr } = await runOk('sh', ['-c', script, root], patient);
  return `${stderr.toString().trim()} ${stdout.toString().trim()}`;
}

test('an image of very many inodes is listed as by the kernel, cold and warm, in bounded memory', async (t) => {
  await using directory = await temporaryDirectory('many-inodes');
  const image = await imageOfInodes(directory.path, inodes);
  let expected: string;
  let expectedNatively: string;
  {
    await using kernel = await loopMount(image, { mountOptions: 'ro' });
    expected = await listing(kernel.path, files);
    expectedNatively = await listing(kernel.path, native);
  }
  assert.ok(Number(expected.split(' ')[0]) >= inodes * 0.99, expected);
  {
    await using mounted = await mountImage({ path: image });
    for (const what of ['cold', 'warm']) {
      const startedMs = performance.now();
      assert.equal(await listing(mounted.path, files), expected);
      const { brokerPid, serverPid } = mounted;
      const [broker, server] = [peakMebibytes(brokerPid), peakMebibytes(serverPid)];
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
      t.diagnostic(
        `${what}: ${seconds} s; broker ${broker.toFixed(0)}, server ${server.toFixed(0)} MiB`,
      );
      assert.ok(broker <= residentMaxMebibytes && server <= residentMaxMebibytes);
    }
  }
  const startedMs = performance.now();
  await using mounted = await mountImage({ path: image }, 'native');
  t.diagnostic(`mounted natively after ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
  assert.equal(await listing(mounted.path, native), expectedNatively);
});

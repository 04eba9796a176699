/**
 * One directory with very many names, through the whole of a mount. EBB_HUGE_NAMES: how many (1,000,000 is what the
 * figures of docs/benchmarks/mount.md are for; TMPDIR should then be a tmpfs).
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { withEbb } from '../support/mount.ts';
import { peakMebibytes } from '../support/process-costs.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const names = Number(process.env['EBB_HUGE_NAMES'] ?? 30_000);
const patient = { timeoutMs: 3_600_000 };
const residentMaxMebibytes = 300;
const descriptorsMax = 1_000;

test('find over a directory of very many names ends: each once, bounded memory and descriptors', async (t) => {
  await using directory = await temporaryDirectory('huge');
  const source = path.join(directory.path, 'source');
  await mkdir(path.join(source, 'huge'), { recursive: true });
  await runOk(
    '/bin/sh',
    ['-c', `cd "$0" && seq -f 'name-%.0f' ${names} | xargs touch`, path.join(source, 'huge')],
    patient,
  );
  await writeFile(path.join(source, 'small'), 'small');
  await withEbb({ remote: source }, async (mount) => {
    let descriptors = 0;
    const watching = setInterval(() => {
      if (mount.alive())
        descriptors = Math.max(descriptors, readdirSync(`/proc/${mount.pid}/fd`).length);
    }, 200);
    try {
      const huge = path.join(mount.path, 'huge');
      for (const what of ['cold', 'warm']) {
        const startedMs = performance.now();
        // With -size each of them is looked up.
        const script = `find "$0" -type f -size 0 -printf '%f\\n' | sort -u | wc -l`;
        const found = await runOk('/bin/sh', ['-c', script, huge], patient);
        assert.equal(Number(found.stdout.toString()), names);
        const seconds = ((performance.now() - startedMs) / 1_000).toFixed(1);
        t.diagnostic(`${what}: ${seconds} s, peak ${peakMebibytes(mount.pid).toFixed(0)} MiB`);
      }
    } finally {
      clearInterval(watching);
    }
    assert.ok(descriptors > 0 && descriptors <= descriptorsMax, `${descriptors} descriptors`);
    const peak = peakMebibytes(mount.pid);
    assert.ok(peak <= residentMaxMebibytes, `${peak} MiB`);
  });
});

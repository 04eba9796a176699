/** From a URL or path to a remote that survives what real origins do. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { test } from 'node:test';
import { openRemote } from '../../src/remote/open-remote.ts';
import type { RequestTrace } from '../../src/remote/trace.ts';
import {
  CollectingSink,
  listAll,
  noSignal,
  readAll,
  rejectsWith,
  sortedNames,
} from '../conformance/collect.ts';
import { remoteConformance } from '../conformance/remote.ts';
import { startLyingOrigin } from '../support/lying-origin.ts';
import type { OriginFault } from '../support/lying-origin.ts';
import { patternBytes } from '../support/pattern.ts';
import { directoryFixture } from '../support/remote-fixtures.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const retryPauses = { baseMs: 1, maxMs: 5 };

remoteConformance('openRemote(path)', async () => {
  const fixture = await directoryFixture();
  return { ...fixture, remote: await openRemote({ url: fixture.root }) };
});

void test('paths and file URLs; what is neither is refused', async () => {
  await using directory = await temporaryDirectory('a b%20c');
  await writeFile(`${directory.path}/file`, 'x');
  for (const url of [directory.path, pathToFileURL(directory.path).href]) {
    const remote = await openRemote({ url });
    assert.equal(remote.kind, 'dir');
    assert.deepEqual(sortedNames(await listAll(remote, '')), ['file']);
    await remote.close();
  }
  for (const url of ['', 'relative/path', 's3://bucket', 'file://elsewhere/x', 'ftp://host/']) {
    await rejectsWith((async () => openRemote({ url }))(), 'EINVAL');
  }
});

const content = patternBytes(1, 2_000_000);

/** Faults that pass: the bytes must come, complete and right. */
const passing: readonly OriginFault[] = [
  { kind: 'cut', afterBytes: 0 },
  { kind: 'cut', afterBytes: 700_000 },
  { kind: 'cut', afterBytes: 700_000, reset: true },
  { kind: 'cutBeforeHeaders' },
  { kind: 'short', byBytes: 1 },
  { kind: 'long', byBytes: 1 },
  { kind: 'status', status: 500 },
  { kind: 'status', status: 502 },
  { kind: 'status', status: 503, retryAfter: '0' },
  { kind: 'status', status: 429, retryAfter: '0' },
  { kind: 'shiftRange', byBytes: 64 },
  { kind: 'garbage' },
  { kind: 'latency', latencyMs: 30 },
  { kind: 'informational' },
];
/** Faults that stay: right bytes or an error. */
const lasting: readonly OriginFault[] = [
  ...passing,
  { kind: 'ignoreRange' },
  { kind: 'wrongTotal', totalBytes: 1_999_999 },
  { kind: 'noContentRange' },
  { kind: 'multipart' },
  { kind: 'htmlPage' },
  { kind: 'loginRedirect' },
  { kind: 'redirectLoop' },
  { kind: 'gzip' },
  { kind: 'changingEtag' },
  { kind: 'noEtag' },
  { kind: 'replaced' },
  { kind: 'chunked' },
  { kind: 'chunked', cutAfterBytes: 1000 },
  { kind: 'status', status: 404 },
  { kind: 'status', status: 401 },
];

void test('an origin that fails once: the right bytes; for ever: right bytes or an error', async () => {
  await using directory = await temporaryDirectory('lies');
  await writeFile(`${directory.path}/file`, content);
  await using origin = await startLyingOrigin({ root: directory.path });
  for (const times of [1, undefined]) {
    for (const fault of times === 1 ? passing : lasting) {
      const traces: RequestTrace[] = [];
      const remote = await openRemote({
        url: origin.url,
        retries: 2,
        retryPauses,
        onRequest: (trace) => traces.push(trace),
      });
      const { version } = await remote.stat('file', { signal: noSignal });
      const what = `${JSON.stringify(fault)} ${times ?? 'for ever'}`;
      await origin.addRule({
        match: { path: '/file', method: 'GET' },
        fault,
        ...(times && { times }),
      });
      const sink = new CollectingSink();
      const range = { offsetBytes: 100_000, lengthBytes: 1_500_000, version };
      const outcome = await readAll(remote, 'file', range, sink).then(
        () => 'ok',
        (error: { code?: string }) => error.code ?? 'an error without code',
      );
      const passed = sink.bytes();
      assert.ok(passed.equals(content.subarray(100_000, 100_000 + passed.length)), what);
      if (outcome === 'ok') assert.equal(passed.length, 1_500_000, what);
      if (times === 1) assert.equal(outcome, 'ok', what);
      assert.match(outcome, /^(ok|E[A-Z]+)$/, what);
      assert.ok(traces.length > 1);
      await origin.clearRules();
      await remote.close();
    }
  }
});

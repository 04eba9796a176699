/**
 * Runs the tests: those without a kernel mount two files at a time, then those in test/kernel/
 * alone, because they measure and mount. Two runs of node:test, shown as one: one report, one
 * summary at the end.
 *
 *     node test/run.ts [FILE]...
 */
import { globSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { run } from 'node:test';
import type { TestEvent } from 'node:test/reporters';
import { spec } from 'node:test/reporters';

/** For one test, unless it says otherwise. */
const testTimeoutMs = 120_000;
/** For all of them: something hangs. */
const totalTimeoutMs = 45 * 60_000;

const root = path.join(import.meta.dirname, '..');

interface Counts {
  readonly tests: number;
  readonly suites: number;
  readonly passed: number;
  readonly failed: number;
  readonly cancelled: number;
  readonly skipped: number;
  readonly todo: number;
}

const names: readonly (readonly [keyof Counts, string])[] = [
  ['tests', 'tests'],
  ['suites', 'suites'],
  ['passed', 'pass'],
  ['failed', 'fail'],
  ['cancelled', 'cancelled'],
  ['skipped', 'skipped'],
  ['todo', 'todo'],
];

const totals = new Map<keyof Counts, number>();
const startedAtMs = performance.now();

/** All events of both runs, with one summary instead of two. */
async function* events(files: readonly string[]): AsyncGenerator<TestEvent> {
  const isKernel = (file: string): boolean => file.startsWith(`test${path.sep}kernel${path.sep}`);
  const runs = [
    { files: files.filter((file) => !isKernel(file)), concurrency: 2 },
    { files: files.filter(isKernel), concurrency: 1 },
  ];
  const signal = AbortSignal.timeout(totalTimeoutMs);
  for (const { files: some, concurrency } of runs) {
    if (some.length === 0) continue;
    const options = { cwd: root, timeout: testTimeoutMs, forceExit: true, signal };
    for await (const event of run({ ...options, files: some, concurrency })) {
      if (event.type === 'test:summary' && event.data.file === undefined) add(event.data.counts);
      else if (!isSummaryLine(event)) yield event;
    }
  }
  for (const [key, name] of names) yield diagnostic(`${name} ${totals.get(key) ?? 0}`);
  yield diagnostic(`duration_ms ${Math.round(performance.now() - startedAtMs)}`);
}

function add(counts: Counts): void {
  for (const [key] of names) totals.set(key, (totals.get(key) ?? 0) + counts[key]);
}

function isSummaryLine(event: TestEvent): boolean {
  return (
    event.type === 'test:diagnostic' &&
    event.data.nesting === 0 &&
    event.data.file === undefined &&
    /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) [\d.]+$/.test(event.data.message)
  );
}

function diagnostic(message: string): TestEvent {
  return { type: 'test:diagnostic', data: { nesting: 0, message, level: 'info' } } as TestEvent;
}

const named = process.argv.slice(2).map((file) => path.relative(root, path.resolve(file)));
const files = named.length > 0 ? named : globSync('test/**/*.test.ts', { cwd: root }).sort();
const report = Readable.from(events(files)).compose(spec());
report.pipe(process.stdout);
report.once('end', () => {
  const count = (key: keyof Counts): number => totals.get(key) ?? 0;
  const isRight = count('passed') > 0 && count('failed') + count('cancelled') === 0;
  process.exitCode = isRight ? 0 : 1;
});

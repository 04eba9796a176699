/**
 * Runs the tests: those without a kernel mount first, then those in test/kernel/. Runs of
 * node:test, shown as one: one report, one summary at the end, with the files that took longest.
 *
 *     node test/run.ts [FILE]...
 */
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { run } from 'node:test';
import type { TestEvent } from 'node:test/reporters';
import { spec } from 'node:test/reporters';

/** For one test, unless it says otherwise. Generous: no test measures time, and machines can be slow. */
const testTimeoutMs = 900_000;
/** For all of them: something hangs. */
const totalTimeoutMs = 80 * 60_000;
/** A fifth of what tests do is waiting, for disks, deadlines and processes: with one more, processors are busy. */
const filesAtATime = availableParallelism() + 1;
/** Started first: one that takes minutes and is started last has the machine for itself, and is waited for. */
const longNames: readonly string[] = [
  'test/ext4/fuzz.test.ts',
  'test/tree/stubs/crash.test.ts',
  'test/kernel/probes.test.ts',
  'test/kernel/native-probes.test.ts',
  'test/kernel/native-kill.test.ts',
  'test/kernel/faults.test.ts',
  'test/kernel/native-life.test.ts',
  'test/kernel/successor.test.ts',
  'test/kernel/harness.test.ts',
  'test/kernel/bad-input.test.ts',
  'test/kernel/native-power-cut.test.ts',
  'test/kernel/native-property.test.ts',
];
/** Mount namespaces that it makes are users of the trees that others take away. */
const aloneNames: ReadonlySet<string> = new Set(['native-places.test.ts']);
const slowestShown = 12;

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

interface Summary {
  readonly file?: string | undefined;
  readonly counts: Counts;
  readonly duration_ms: number;
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
/** Milliseconds by file. */
const durations = new Map<string, number>();
const startedAtMs = performance.now();

/** All events of both runs, with one summary instead of two. */
async function* events(files: readonly string[]): AsyncGenerator<TestEvent> {
  const isKernel = (file: string): boolean => file.startsWith(`test${path.sep}kernel${path.sep}`);
  const isAlone = (file: string): boolean => aloneNames.has(path.basename(file));
  const runs = [
    { files: files.filter((file) => !isKernel(file)), concurrency: filesAtATime },
    { files: files.filter((file) => isKernel(file) && !isAlone(file)), concurrency: filesAtATime },
    { files: files.filter((file) => isKernel(file) && isAlone(file)), concurrency: 1 },
  ];
  const signal = AbortSignal.timeout(totalTimeoutMs);
  for (const { files: some, concurrency } of runs) {
    if (some.length === 0) continue;
    const options = {
      cwd: root,
      timeout: testTimeoutMs,
      signal,
      execArgv: [`--import=${path.join(import.meta.dirname, 'support/runner-child.ts')}`],
    };
    for await (const event of run({ ...options, files: some, concurrency })) {
      if (event.type === 'test:summary') addSummary(event.data);
      else if (!isSummaryLine(event)) yield event;
    }
  }
  const slowest = [...durations].sort((a, b) => b[1] - a[1]).slice(0, slowestShown);
  for (const [file, durationMs] of slowest) {
    yield diagnostic(`${path.relative(root, file)} took ${Math.round(durationMs / 1_000)} s`);
  }
  for (const [key, name] of names) yield diagnostic(`${name} ${totals.get(key) ?? 0}`);
  yield diagnostic(`duration_ms ${Math.round(performance.now() - startedAtMs)}`);
}

/** One for each file, then one for each run. */
function addSummary(summary: Summary): void {
  const { file, counts, duration_ms: durationMs } = summary;
  if (file !== undefined) durations.set(file, durationMs);
  else for (const [key] of names) totals.set(key, (totals.get(key) ?? 0) + counts[key]);
}

function isSummaryLine(event: TestEvent): boolean {
  return (
    event.type === 'test:diagnostic' &&
    event.data.nesting === 0 &&
    event.data.file === undefined &&
    /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) [\d.]+$/.test(event.data.message)
  );
}

function inOrder(all: readonly string[]): string[] {
  for (const name of longNames) if (!all.includes(name)) throw new Error(`there is no ${name}`);
  return [...longNames, ...all.filter((name) => !longNames.includes(name)).sort()];
}

function diagnostic(message: string): TestEvent {
  return { type: 'test:diagnostic', data: { nesting: 0, message, level: 'info' } } as TestEvent;
}

const named = process.argv.slice(2).map((file) => path.relative(root, path.resolve(file)));
const files = named.length > 0 ? named : inOrder(globSync('test/**/*.test.ts', { cwd: root }));
const report = Readable.from(events(files)).compose(spec());
report.pipe(process.stdout);
report.once('end', () => {
  const count = (key: keyof Counts): number => totals.get(key) ?? 0;
  const isRight = count('passed') > 0 && count('failed') + count('cancelled') === 0;
  process.exitCode = isRight ? 0 : 1;
});

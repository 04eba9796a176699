/**
 * A probe is one way in which programs look at files: a tool, a system call, a habit. Each has a directory of its
 * own in the source, so that all probes can share one mount and each still meets cold files. It runs its program
 * over the mount and over the source and throws when the two differ.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import type { CorpusWriter } from '../support/corpus.ts';
import { run, runOk } from '../support/run.ts';
import type { RunOptions, RunResult } from '../support/run.ts';

/** What a remote can show at all; probes leave out the rest. */
export interface RemoteTraits {
  readonly dotfiles: boolean;
  /** Control characters and invalid UTF-8 in names. */
  readonly everyByte: boolean;
  /** Files may be executed (a directory keeps modes; HTTP is mounted with --file-mode 0555). */
  readonly executable: boolean;
  /** Modification times are kept to the nanosecond, not to the second. */
  readonly exactTimes: boolean;
  /** The mount claims blocks for all of a file (a native copy with holes does not). */
  readonly claimsBlocks: boolean;
  /** The mount refuses every change (a native copy does not). */
  readonly readOnly: boolean;
  /** Reading what is cold leaves the time of change alone (a native tree on ext4 or btrfs cannot). */
  readonly stableChangeTime: boolean;
  /** SEEK_DATA and FIEMAP tell the truth about what is cold to any program (a native tree on ext4 cannot). */
  readonly tellsHoles: boolean;
}

export interface ProbeContext {
  /** This probe's directory, seen through the mount. */
  readonly mount: string;
  /** The same directory of the source. */
  readonly source: string;
  /** Empty native directory for what the probe writes. */
  readonly scratch: string;
  /** The compiled probe.c. */
  readonly helper: string;
  readonly traits: RemoteTraits;
}

export interface Probe {
  /** Name of its directory and in messages; kebab-case, unique. */
  readonly name: string;
  /**
   * What the self-test breaks to see this probe fail: `content` (bytes turned into zeros), `metadata` (times, a
   * missing name), or `none` for probes of refusals.
   */
  readonly sees: 'content' | 'metadata' | 'none';
  readonly when?: (traits: RemoteTraits) => boolean;
  prepare(writer: CorpusWriter, traits: RemoteTraits): void | Promise<void>;
  run(context: ProbeContext): Promise<void>;
}

/** The longest that one command of a probe may take: a stuck reader becomes a failure with a name. */
export const probeCommandTimeoutMs = 60_000;

const gitEnvironment = {
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_SYSTEM: '/dev/null',
  GIT_CONFIG_COUNT: '2',
  GIT_CONFIG_KEY_0: 'safe.directory',
  GIT_CONFIG_VALUE_0: '*',
  GIT_CONFIG_KEY_1: 'core.fileMode',
  GIT_CONFIG_VALUE_1: 'false',
  GIT_AUTHOR_NAME: 'Tester',
  GIT_AUTHOR_EMAIL: 'tester@example.org',
  GIT_COMMITTER_NAME: 'Tester',
  GIT_COMMITTER_EMAIL: 'tester@example.org',
  GIT_AUTHOR_DATE: '2020-09-13T12:00:00Z',
  GIT_COMMITTER_DATE: '2020-09-13T12:00:00Z',
};

/** Runs a shell script in `directory`; `$SCRATCH`, `$MOUNT` and `$SOURCE` name the probe's directories. */
export function shell(
  context: ProbeContext,
  directory: string,
  script: string,
  options: RunOptions = {},
): Promise<RunResult> {
  // The child changes directory itself: doing so may hang on a stuck mount, and spawn would wait for it.
  return run('/bin/sh', ['-c', `cd "$DIRECTORY" || exit 126\n${script}`], {
    timeoutMs: probeCommandTimeoutMs,
    ...options,
    env: { ...gitEnvironment, ...placesOf(context), DIRECTORY: directory, ...options.env },
  });
}

/** Like `shell`, but must end with 0. */
export async function shellOk(
  context: ProbeContext,
  directory: string,
  script: string,
): Promise<RunResult> {
  const result = await shell(context, directory, script);
  assertEnded(result, script);
  assert.equal(result.code, 0, `${script}\nended ${result.code}: ${result.stderr.toString()}`);
  return result;
}

function placesOf(context: ProbeContext): Record<string, string> {
  return { MOUNT: context.mount, SOURCE: context.source, SCRATCH: context.scratch };
}

function assertEnded(result: RunResult, script: string): void {
  assert.ok(!result.timedOut, `${script}\ndid not end within ${probeCommandTimeoutMs} ms`);
}

/**
 * By source and script, or program: what is said there. Nobody changes a source, and many mounts are compared with the
 * same one. As many as there are probes.
 */
const saidInSource = new Map<string, Promise<RunResult>>();

function inSource(
  { source }: ProbeContext,
  what: string,
  ask: () => Promise<RunResult>,
): Promise<RunResult> {
  const key = `${source}\0${what}`;
  const said = saidInSource.get(key) ?? ask();
  saidInSource.set(key, said);
  return said;
}

/** Runs the same script in the source and in the mount; output and exit code must be equal. */
export async function assertSameOutput(context: ProbeContext, script: string): Promise<void> {
  const expected = await inSource(context, script, () => shell(context, context.source, script));
  const actual = await shell(context, context.mount, script);
  assertEnded(expected, script);
  assertEnded(actual, script);
  const say = (result: RunResult): string =>
    `exit ${result.code}\n${result.stdout.toString('latin1')}\n${result.stderr.toString()}`;
  assert.equal(actual.code, expected.code, `${script}\nmount: ${say(actual)}`);
  if (actual.stdout.equals(expected.stdout)) return;
  assert.equal(say(actual).slice(0, 4000), say(expected).slice(0, 4000), script);
  assert.fail(`${script}: outputs of ${actual.stdout.length} bytes differ`);
}

/** Runs a script in the mount that leaves a copy of its files in `$SCRATCH/out`; that copy must be equal. */
export async function assertCopies(context: ProbeContext, script: string): Promise<void> {
  mkdirSync(path.join(context.scratch, 'out'), { recursive: true });
  await shellOk(context, context.mount, script);
  assertSameFiles(path.join(context.scratch, 'out'), context.source);
}

/** Every file of `source` is in `copy` with the same bytes, and nothing else is. Both on native filesystems. */
export function assertSameFiles(copy: string, source: string): void {
  const names = (directory: string): string[] =>
    readdirSync(directory, { recursive: true, encoding: 'latin1' }).sort();
  assert.deepEqual(names(copy), names(source));
  for (const name of names(source)) {
    const expected = Buffer.from(path.join(source, name), 'latin1');
    if (!statSync(expected).isFile()) continue;
    assertSameFile(Buffer.from(path.join(copy, name), 'latin1'), expected);
  }
}

/** Compares two native files; the message gives the first offset that differs. */
export function assertSameFile(actualFile: string | Buffer, expectedFile: string | Buffer): void {
  const actual = readFileSync(actualFile);
  const expected = readFileSync(expectedFile);
  if (actual.equals(expected)) return;
  const shorter = Math.min(actual.length, expected.length);
  let offset = 0;
  while (offset < shorter && actual[offset] === expected[offset]) offset += 1;
  const facts = `${actual.length} bytes instead of ${expected.length}, first difference at ${offset}`;
  const bytes = `${actual[offset]} instead of ${expected[offset]}`;
  assert.fail(`${expectedFile.toString('latin1')}: ${facts} (${bytes})`);
}

/** Exit code of probe.c for an interface that the kernel does not offer there: an honest refusal. */
const notOffered = 77;

/** Reads every file of the probe's directory through `method` of probe.c; compares with read(2) of the source. */
export async function assertReads(context: ProbeContext, method: string): Promise<void> {
  for (const name of readdirSync(context.source).sort()) {
    const options = { timeoutMs: probeCommandTimeoutMs, env: { PROBE_SCRATCH: context.scratch } };
    const original = path.join(context.source, name);
    const expected = await inSource(context, name, () => runOk(context.helper, ['read', original]));
    const actual = await run(context.helper, [method, path.join(context.mount, name)], options);
    assertEnded(actual, `${method} ${name}`);
    if (actual.code === notOffered) continue;
    assert.equal(actual.code, 0, `${method} ${name}: ${actual.stderr.toString()}`);
    assert.equal(actual.stdout.toString(), expected.stdout.toString(), `${method} ${name}`);
  }
}

/** Compiles one of the C helpers next to this file into `directory`; returns the program's path. */
export async function compileHelper(
  directory: string,
  name: 'probe' | 'hammer' | 'holder' | 'crowd' | 'alarmed' = 'probe',
): Promise<string> {
  const program = path.join(directory, name);
  const source = path.join(import.meta.dirname, `${name}.c`);
  await runOk('gcc', ['-O2', '-Wall', '-Wextra', '-pthread', '-o', program, source], {
    timeoutMs: 60_000,
    debianPackage: 'gcc',
  });
  return program;
}

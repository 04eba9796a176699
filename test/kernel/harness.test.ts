/**
 * The probes themselves are tested: over a true copy all of them pass; over a copy whose bytes became zeros (what a
 * stub shows to a tool that asks for holes) or whose times and names are wrong, each one fails. A probe that cannot
 * fail proves nothing about a mount.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  statSync,
  truncateSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { allProbes, copyTraits, prepareSource, runProbes } from '../probes/all.ts';
import type { ProbeResult } from '../probes/all.ts';
import { compileHelper } from '../probes/probe.ts';
import type { Probe } from '../probes/probe.ts';
import { writingProbes } from '../probes/writing.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

interface Setting {
  readonly source: string;
  readonly copy: string;
  readonly scratch: string;
  readonly helper: string;
}

async function makeSetting(
  directory: string,
  probes: readonly Probe[] = allProbes,
): Promise<Setting> {
  const places = { source: 'source', copy: 'copy', scratch: 'scratch' };
  for (const name of Object.values(places)) await runOk('mkdir', [path.join(directory, name)]);
  await prepareSource(path.join(directory, 'source'), copyTraits, probes);
  await copyAfresh(directory);
  return {
    source: path.join(directory, 'source'),
    copy: path.join(directory, 'copy'),
    scratch: path.join(directory, 'scratch'),
    helper: await compileHelper(directory),
  };
}

async function copyAfresh(directory: string): Promise<void> {
  await runOk('rm', ['-rf', path.join(directory, 'copy')]);
  await runOk('cp', ['-a', path.join(directory, 'source'), path.join(directory, 'copy')]);
}

function eachFile(directory: string, act: (file: Buffer, sizeBytes: number) => void): void {
  for (const name of readdirSync(directory, { recursive: true, encoding: 'latin1' })) {
    const file = Buffer.from(path.join(directory, name), 'latin1');
    const facts = statSync(file);
    if (!facts.isFile() || facts.size === 0) continue;
    act(file, facts.size);
    utimesSync(file, facts.mtimeMs / 1000, facts.mtimeMs / 1000);
  }
}

/** Same size, same time, nothing but a hole: a stub without a daemon. */
function turnIntoHoles(directory: string): void {
  eachFile(directory, (file, sizeBytes) => {
    truncateSync(file, 0);
    truncateSync(file, sizeBytes);
  });
}

const bytesBetweenFlips = 100_000;

/** One bit in every 100 kB: what a wrong range or a mixed version leaves. */
function flipBits(directory: string): void {
  const byte = Buffer.alloc(1);
  eachFile(directory, (file, sizeBytes) => {
    const descriptor = openSync(file, 'r+');
    for (let offset = sizeBytes - 1; offset >= 0; offset -= bytesBetweenFlips) {
      readSync(descriptor, byte, 0, 1, offset);
      byte[0] = (byte[0] ?? 0) ^ 0x10;
      writeSync(descriptor, byte, 0, 1, offset);
    }
    closeSync(descriptor);
  });
}

/** Another time for everything, and one name spelt otherwise. */
function disturbMetadata(directory: string): void {
  eachFile(directory, () => {});
  let renamed = false;
  for (const name of readdirSync(directory, { recursive: true, encoding: 'latin1' }).reverse()) {
    const file = Buffer.from(path.join(directory, name), 'latin1');
    if (!statSync(file).isFile()) continue;
    utimesSync(file, 1_500_000_000, 1_500_000_000);
    if (!renamed) renameSync(file, Buffer.concat([file, Buffer.from('~')]));
    renamed = true;
  }
}

const failed = (results: readonly ProbeResult[]): string[] =>
  results.filter((result) => result.error !== undefined).map((result) => result.name);

test('probes pass over a true copy and fail over a wrong one', async (context) => {
  await using directory = await temporaryDirectory('harness');
  const setting = await makeSetting(directory.path);
  const run = (names?: readonly string[]): Promise<ProbeResult[]> =>
    runProbes({
      ...setting,
      mount: setting.copy,
      traits: copyTraits,
      ...(names === undefined
        ? {}
        : { probes: allProbes.filter((probe) => names.includes(probe.name)) }),
    });
  const seeing = (kind: 'content' | 'metadata'): string[] =>
    allProbes.filter((probe) => probe.sees === kind).map((probe) => probe.name);

  await context.test('a true copy', async () => {
    for (const result of await run()) assert.ifError(result.error);
  });
  await context.test('holes instead of bytes', async () => {
    turnIntoHoles(setting.copy);
    assert.deepEqual(failed(await run(seeing('content'))).sort(), seeing('content').sort());
  });
  await context.test('a bit here and there', async () => {
    await copyAfresh(directory.path);
    flipBits(setting.copy);
    const whole = allProbes.filter((probe) => /^(call|cp|tar$|cat$|rsync)/.test(probe.name));
    const names = whole.filter((probe) => probe.sees === 'content').map((probe) => probe.name);
    assert.deepEqual(failed(await run(names)).sort(), names.sort());
  });
  await context.test('wrong times and names', async () => {
    await copyAfresh(directory.path);
    for (const name of seeing('metadata')) disturbMetadata(path.join(setting.copy, name));
    assert.deepEqual(failed(await run(seeing('metadata'))).sort(), seeing('metadata').sort());
  });
});

test('probes that write pass over a true copy and fail over holes', async (context) => {
  await using directory = await temporaryDirectory('harness-writing');
  const setting = await makeSetting(directory.path, writingProbes);
  const run = (): Promise<ProbeResult[]> =>
    runProbes({ ...setting, mount: setting.copy, traits: copyTraits, probes: writingProbes });
  await context.test('a true copy', async () => {
    for (const result of await run()) assert.ifError(result.error);
  });
  await context.test('holes instead of bytes', async () => {
    await copyAfresh(directory.path);
    turnIntoHoles(setting.copy);
    // Clones are refused on a root file system without them, and then there is nothing to compare.
    const names = writingProbes.map((probe) => probe.name);
    const seen = failed(await run());
    assert.deepEqual(
      seen,
      names.filter((name) => !/reflink/.test(name) || seen.includes(name)),
    );
  });
});

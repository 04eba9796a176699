/** Notifications and redelivery, as the kernel takes them. Needs root. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { open, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import { mountPointIn, ServerProcess } from './server.ts';

const module = './pattern-filesystem.ts';
const root = 1;
const patternNode = 2;

interface Counts {
  readonly lookups: number;
  readonly reads: number;
  readonly forgotten: number;
}

/** What the file system counted until now. */
async function countsOf(server: ServerProcess): Promise<Counts> {
  const before = server.events.length;
  server.send('counts');
  const found = await waitFor(
    () => server.events.slice(before).find(({ message }) => typeof message === 'object'),
    { what: 'the counts' },
  );
  return found.message as Counts;
}

async function notify(server: ServerProcess, method: string, ...args: unknown[]): Promise<unknown> {
  const before = server.events.length;
  server.send(JSON.stringify({ notify: method, args }));
  const isAnswer = ({ event }: { event: string }): boolean => event === 'notified';
  const found = await waitFor(() => server.events.slice(before).find(isAnswer), { what: method });
  return found.result;
}

async function firstBytes(file: string, count: number): Promise<string> {
  await using handle = await open(file);
  const bytes = Buffer.alloc(count);
  await handle.read(bytes, 0, count, 0);
  return bytes.toString('latin1');
}

test('names: invalidated, expired, by epoch, deleted', async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  await using server = await ServerProcess.start({ module, mountPoint });
  const file = path.join(mountPoint, 'pattern');
  const lookups = async (): Promise<number> => {
    await stat(file);
    await stat(file);
    return (await countsOf(server)).lookups;
  };
  assert.equal(await lookups(), 1, 'the name is cached');
  assert.equal(await notify(server, 'invalidateEntry', root, 'pattern'), true);
  assert.equal(await lookups(), 2);
  assert.equal(await notify(server, 'invalidateEntry', root, 'pattern', true), true);
  assert.equal(await lookups(), 3);
  await notify(server, 'incrementEpoch');
  assert.equal(await lookups(), 4);
  assert.equal(await notify(server, 'deleteEntry', root, patternNode, 'pattern'), true);
  assert.equal(await lookups(), 5);
  assert.equal(await notify(server, 'invalidateEntry', root, 'never seen'), false);
  assert.equal(await notify(server, 'invalidateEntry', 4711, 'pattern'), false);
});

test('content: invalidated, stored, retrieved', async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  await using server = await ServerProcess.start({ module, mountPoint });
  const file = path.join(mountPoint, 'pattern');
  const original = await firstBytes(file, 6);
  const reads = async (): Promise<number> => (await countsOf(server)).reads;
  const first = await reads();
  assert.ok(first > 0);
  await firstBytes(file, 6);
  assert.equal(await reads(), first, 'the pages are cached');
  assert.equal(await notify(server, 'store', patternNode, 0, 'stored'), true);
  assert.equal(await firstBytes(file, 6), 'stored');
  assert.equal(await notify(server, 'retrieve', patternNode, 2, 4, 99), true);
  await server.event('message', `retrieved 99 ${patternNode} 2 ored`);
  assert.equal(await notify(server, 'invalidateInode', patternNode), true);
  assert.equal(await firstBytes(file, 6), original);
  assert.ok((await reads()) > first);
  assert.equal(await notify(server, 'invalidateInode', 4711), false);
});

test('unused nodes are forgotten when pruned', async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  await using server = await ServerProcess.start({ module, mountPoint });
  await stat(path.join(mountPoint, 'pattern'));
  await notify(server, 'prune', [patternNode, 4711]);
  await waitFor(async () => (await countsOf(server)).forgotten === patternNode, {
    what: 'the FORGET',
  });
});

test('a successor goes on with the connection, and gets what was left unanswered', async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  await using server = await ServerProcess.start({ module, mountPoint });
  const reader = spawn('head', ['-c', '6', path.join(mountPoint, 'blocked')], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const output = text(reader.stdout);
  await server.event('message', 'blocked');
  server.send('restart');
  await server.event('restarted');
  assert.equal(await output, 'resent');
  assert.equal((await readFile(path.join(mountPoint, 'deferred'))).length > 0, true);
});

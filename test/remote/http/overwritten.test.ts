/**
 * Files that are written while a web server sends them (sendfile(2) sends the page cache as it is then), or again
 * within the second in which they were asked about.
 */
import assert from 'node:assert/strict';
import {
  chmodSync,
  closeSync,
  openSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { toEbbError } from '../../../src/base/errors.ts';
import { openHttpRemote } from '../../../src/remote/http/http-remote.ts';
import { startApache, startCaddy, startNginx, startPythonServer } from '../../support/servers.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import { waitFor } from '../../support/wait-for.ts';
import { MemorySink, never, readInto } from './collect.ts';
import { answer, scriptedOrigin } from './scripted-origin.ts';

/** More than the sockets between the two hold. */
const sizeBytes = 16 * 1024 * 1024;
const [oldByte, newByte] = [1, 2];

/** Takes everything, but waits for `go` after the first piece. */
class WaitingSink extends MemorySink {
  readonly begun = Promise.withResolvers<void>();
  readonly #go: Promise<void>;

  constructor(go: Promise<void>) {
    super();
    this.#go = go;
  }

  override async filled(countBytes: number): Promise<void> {
    await super.filled(countBytes);
    this.begun.resolve();
    await this.#go;
  }
}

test('a file overwritten in place while it is sent: afterwards its new version alone is given', async () => {
  await using directory = await temporaryDirectory('overwritten');
  chmodSync(directory.path, 0o755);
  const file = path.join(directory.path, 'file');
  writeFileSync(file, Buffer.alloc(sizeBytes, oldByte));
  utimesSync(file, 1_500_000_000, 1_500_000_000);
  await using origin = await startNginx({ root: directory.path });
  const remote = await openHttpRemote({ url: origin.url });
  await using _closing = { [Symbol.asyncDispose]: async () => remote.close() };
  const { version } = await remote.stat('file', { signal: never });
  assert(version !== undefined);

  const go = Promise.withResolvers<void>();
  const sink = new WaitingSink(go.promise);
  const reading = readInto(remote, 'file', { version }, sink);
  await sink.begun.promise;
  const descriptor = openSync(file, 'r+');
  writeSync(descriptor, Buffer.alloc(sizeBytes, newByte));
  closeSync(descriptor);
  utimesSync(file, 1_500_000_001, 1_500_000_001);
  go.resolve();
  await reading;
  // The server had named the old version before it was overwritten: nothing in the answer shows what became of it.
  assert.equal(sink.bytes().length, sizeBytes);

  const now = await remote.stat('file', { signal: never });
  assert.notEqual(now.version, version);
  await assert.rejects(readInto(remote, 'file', { version }), { code: 'ESTALE' });
  const after = await readInto(remote, 'file', { version: now.version });
  assert.ok(after.bytes().every((byte) => byte === newByte));
});

test('two contents of one size, in one second of the past, are one version to nginx and two to Apache', async () => {
  await using directory = await temporaryDirectory('overwritten');
  chmodSync(directory.path, 0o755);
  const file = path.join(directory.path, 'file');
  const publish = (text: string, seconds: number): void => {
    writeFileSync(file, text);
    utimesSync(file, seconds, seconds);
  };
  await using nginx = await startNginx({ root: directory.path });
  await using apache = await startApache({ root: directory.path });
  const versions = async (url: string): Promise<(string | undefined)[]> => {
    const remote = await openHttpRemote({ url });
    await using _closing = { [Symbol.asyncDispose]: async () => remote.close() };
    const version = async (): Promise<string | undefined> =>
      (await remote.stat('file', { signal: never })).version;
    publish('one', 1_500_000_000.25);
    const first = await version();
    publish('two', 1_500_000_000.75);
    const second = await version();
    publish('two', 1_500_000_001.25);
    return [first, second, await version()];
  };
  const [one, two, later] = await versions(nginx.url);
  assert.equal(two, one);
  assert.notEqual(later, one);
  assert.equal(new Set(await versions(apache.url)).size, 3);
});

for (const [name, start, pieces] of [
  ['nginx', startNginx, 2],
  ['Caddy', startCaddy, 2],
  ['Python', startPythonServer, 1],
] as const) {
  test(`a file that ${name} sends is read as one content, though it was overwritten within its second`, async () => {
    await using directory = await temporaryDirectory('young');
    chmodSync(directory.path, 0o755);
    const file = path.join(directory.path, 'file');
    await using origin = await start({ root: directory.path });
    const remote = await openHttpRemote({ url: origin.url });
    await using _closing = { [Symbol.asyncDispose]: async () => remote.close() };
    const secondOf = (): number => Math.floor(statSync(file).mtimeMs / 1000);
    const text = async (offsetBytes: number, lengthBytes: number | undefined, version: string) => {
      const sink = await readInto(remote, 'file', { offsetBytes, lengthBytes, version });
      return Buffer.from(sink.bytes()).toString();
    };
    const overwritten = async (): Promise<boolean> => {
      writeFileSync(file, 'one');
      const second = secondOf();
      const { version = '' } = await remote.stat('file', { signal: never });
      // On a busy machine the second may be over.
      const isStale = (error: unknown): string => {
        assert.equal(toEbbError(error).code, 'ESTALE');
        return '';
      };
      const begin = text(0, pieces === 2 ? 1 : undefined, version).catch(isStale);
      await sleep(100);
      writeFileSync(file, 'two');
      const isInTime = secondOf() === second;
      let read = await begin;
      if (pieces === 2) read += await text(1, 2, version).catch(isStale);
      if (isInTime) assert.equal(read, 'two');
      return isInTime;
    };
    await waitFor(overwritten, { what: 'two contents in one second', timeoutMs: 60_000 });
  });
}

test('what an answer of whole seconds is too young for is asked for again when its second is over, once', async () => {
  const ages = { '-2': 58, '-1': 59, '0': 60, '1': 61, '2': 62, '3': 63 };
  const seconds = Date.UTC(2026, 0, 1) / 1000 + 60;
  const date = (at: number): string => new Date((seconds - 60 + at) * 1000).toUTCString();
  const tags = {
    nginx: `"${seconds.toString(16)}-5"`,
    weak: `W/"${seconds.toString(16)}-5"`,
    caddy: `"${seconds.toString(36)}5"`,
    other: `"5-${seconds.toString(16)}"`,
    none: undefined,
  };
  const asked = new Map<string, number>();
  await using origin = await scriptedOrigin(({ path: what, method }) => {
    const [, tag = '', at = '', Age] = what.split('/');
    const fields = { 'Last-Modified': date(60), Date: date(ages[at as keyof typeof ages]), Age };
    const ETag = tags[tag as keyof typeof tags];
    if (method === 'GET') asked.set(what, (asked.get(what) ?? 0) + 1);
    return answer(200, { ...fields, ETag, 'Content-Length': 5 }, method === 'HEAD' ? '' : 'bytes');
  });
  const remote = await openHttpRemote({ url: origin.url });
  await using _closing = { [Symbol.asyncDispose]: async () => remote.close() };
  const read = async (key: string, isYoung: boolean): Promise<void> => {
    const { version } = await remote.stat(key, { signal: never });
    const sink = await readInto(remote, key, { version });
    assert.equal(sink.receivedBytes, 5);
    assert.equal(asked.get(`/${key}`), isYoung ? 2 : 1, key);
  };
  const all = Object.keys(tags).flatMap((tag) => [
    ...Object.entries(ages).map(async ([at, then]) => {
      await read(`${tag}/${at}`, tag !== 'other' && Math.abs(then - 60) < 2);
    }),
    // A cache has had it for so long.
    read(`${tag}/0/2`, false),
    // Longer than anything is (RFC 9111, section 1.2.2).
    read(`${tag}/0/99999999999999999999`, false),
  ]);
  await Promise.all(all);
});

/**
 * Files that are written while a web server sends them (sendfile(2) sends the page cache as it is then), or again
 * within the second in which they were asked about.
 */
import assert from 'node:assert/strict';
import { chmodSync, closeSync, openSync, utimesSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
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

for (const [name, start] of Object.entries({
  nginx: startNginx,
  Caddy: startCaddy,
  Python: startPythonServer,
})) {
  test(`what ${name} tells of a file within two seconds of its time is not what it tells afterwards`, async () => {
    await using directory = await temporaryDirectory('young');
    chmodSync(directory.path, 0o755);
    const file = path.join(directory.path, 'file');
    await using origin = await start({ root: directory.path });
    const remote = await openHttpRemote({ url: origin.url });
    await using _closing = { [Symbol.asyncDispose]: async () => remote.close() };
    const versionNow = async () => (await remote.stat('file', { signal: never })).version ?? '';
    const isYoung = (version: string): boolean => version.startsWith('young;');
    let young = '';
    const asked = async (): Promise<boolean> => {
      writeFileSync(file, 'one');
      young = await versionNow();
      return isYoung(young);
    };
    // On a busy machine the question may come late.
    await waitFor(asked, { what: 'a version that is young', timeoutMs: 60_000 });
    const lasts = async (): Promise<boolean> => !isYoung(await versionNow());
    await waitFor(lasts, { what: 'the file to be older', timeoutMs: 60_000 });
    // Who has begun with it goes on.
    const sink = await readInto(remote, 'file', { version: young });
    assert.equal(Buffer.from(sink.bytes()).toString(), 'one');
    assert.equal(sink.heads[0]?.version, young);
    utimesSync(file, 1_500_000_000, 1_500_000_000);
    await assert.rejects(readInto(remote, 'file', { version: young }), { code: 'ESTALE' });
  });
}

test('a time in whole seconds makes no lasting version of what is as young as that', async () => {
  const times = { '-2': 58, '-1': 59, '0': 60, '1': 61, '2': 62, '3': 63 };
  const seconds = Date.UTC(2026, 0, 1) / 1000 + 60;
  const date = (at: number): string => new Date((seconds - 60 + at) * 1000).toUTCString();
  const tags = {
    nginx: `"${seconds.toString(16)}-5"`,
    caddy: `"${seconds.toString(36)}5"`,
    other: `"${seconds.toString(16)}-6"`,
    none: undefined,
  };
  await using origin = await scriptedOrigin(({ path: asked, method }) => {
    const [, tag = '', at = ''] = asked.split('/');
    const fields = { 'Last-Modified': date(60), Date: date(times[at as keyof typeof times] ?? 0) };
    const ETag = tags[tag as keyof typeof tags];
    return answer(200, { ...fields, ETag, 'Content-Length': 5 }, method === 'HEAD' ? '' : 'bytes');
  });
  const remote = await openHttpRemote({ url: origin.url });
  await using _closing = { [Symbol.asyncDispose]: async () => remote.close() };
  for (const [tag, text] of Object.entries(tags)) {
    const facts = `mtime=${seconds};size=5`;
    const lasting = text === undefined ? facts : `etag:${text}`;
    const youngOne = text === undefined ? `young;${facts}` : `young;weak:W/${text};${facts}`;
    const versions: Record<string, string | undefined> = {};
    for (const at of Object.keys(times)) {
      versions[at] = (await remote.stat(`${tag}/${at}`, { signal: never })).version;
    }
    const young = tag === 'other' ? lasting : youngOne;
    const expected = {
      '-2': lasting,
      '-1': young,
      '0': young,
      '1': young,
      '2': lasting,
      '3': lasting,
    };
    assert.deepEqual(versions, expected, tag);
    for (const at of ['0', '3']) {
      const range = { offsetBytes: 0, version: young };
      assert.equal((await readInto(remote, `${tag}/${at}`, range)).receivedBytes, 5);
      assert.equal(
        (await readInto(remote, `${tag}/${at}`, { ...range, lengthBytes: 0 })).receivedBytes,
        0,
      );
      // Of two servers behind one name the clocks may differ.
      assert.equal((await readInto(remote, `${tag}/${at}`, { version: lasting })).receivedBytes, 5);
    }
  }
});

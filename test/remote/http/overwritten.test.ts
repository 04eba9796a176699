/** A file that somebody writes in place while a web server sends it: sendfile(2) sends the page cache as it is then. */
import assert from 'node:assert/strict';
import { chmodSync, closeSync, openSync, utimesSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { openHttpRemote } from '../../../src/remote/http/http-remote.ts';
import { startApache, startNginx } from '../../support/servers.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import { MemorySink, never, readInto } from './collect.ts';

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

test('two contents of one size within one second are one version to nginx, and two to Apache', async () => {
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

/** What the broker does when a mount is not made: a signal comes, or nothing can be mounted. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import type { Readable } from 'node:stream';
import { test } from 'node:test';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const serveFailing = path.join(import.meta.dirname, 'serve-failing.ts');
const broker = path.join(import.meta.dirname, '../../src/daemon/image/mount-main.ts');

test('a mount that fails before its server is started leaves the image closed', async () => {
  await using directory = await temporaryDirectory('serve-failing');
  await chmod(directory.path, 0o755);
  const image = path.join(directory.path, 'disk.img');
  await writeFile(image, new Uint8Array(4096));
  // Without root the mount is the first thing that is made, and there is no such directory.
  const words = [serveFailing, image, path.join(directory.path, 'missing')];
  const user = { uid: 65_534, gid: 65_534 };
  const { stdout } = await runOk(process.execPath, words, user);
  assert.equal(stdout.toString().trim(), 'ENOENT closed');
});

test('SIGTERM ends the making of a mount whose server says nothing, long before its deadline', async () => {
  await using directory = await temporaryDirectory('broker-signals');
  const sockets: Socket[] = [];
  const silent = createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const { port } = silent.address() as AddressInfo;
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', broker], {
    stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
  });
  try {
    const said = text(child.stdio[3] as Readable);
    const exited = once(child, 'exit');
    const options = {
      imagePath: `http://127.0.0.1:${port}/disk.img`,
      mountPoint: directory.path,
      native: false,
      allowOther: false,
      access: { deadlineMs: 3_600_000, retries: 0 },
      cacheDirectory: path.join(directory.path, 'cache'),
    };
    child.stdin?.end(JSON.stringify(options));
    await once(silent, 'connection');
    child.kill('SIGTERM');
    assert.deepEqual((await exited) as unknown[], [1, null]);
    assert.deepEqual(JSON.parse(await said), {
      ok: false,
      error: 'stopped by a signal while mounting',
      code: 'EINTR',
      exitCode: 1,
    });
  } finally {
    child.kill('SIGKILL');
    for (const socket of sockets) socket.destroy();
    silent.close();
  }
});

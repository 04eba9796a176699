/** The example of docs/fanotify-library.md is run as it stands there. Needs root. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { killAtExit, killGroup, run } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import { makeSparse, skip } from './support.ts';

const root = path.join(import.meta.dirname, '..', '..');
const entryPoint = path.join(root, 'src', 'fanotify', 'public.ts');

test('the example of the fanotify library works', { skip }, async () => {
  await using directory = await temporaryDirectory('fanotify-doc');
  await using filesystem = await loopFilesystem({ type: 'ext4' });
  const file = path.join(filesystem.path, 'file');
  await makeSparse(file, 8192);
  const text = await readFile(path.join(root, 'docs/fanotify-library.md'), 'utf8');
  const [, code = ''] = text.split('```ts lazy.ts\n').map((part) => part.split('```')[0] ?? '');
  assert.match(code, /from 'ebb\/fanotify'/);
  const script = path.join(directory.path, 'lazy.ts');
  await writeFile(path.join(directory.path, 'package.json'), '{"type": "module"}');
  await writeFile(script, code.replaceAll("'ebb/fanotify'", JSON.stringify(entryPoint)));
  const server = spawn(process.execPath, [script, filesystem.path], { detached: true });
  killAtExit(server);
  let stderr = '';
  server.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  const exited = once(server, 'exit');
  try {
    await Promise.race([once(createInterface({ input: server.stdout }), 'line'), exited]);
    assert.equal(server.exitCode, null, stderr);
    const read = await run('cat', [file], { timeoutMs: 10_000 });
    assert.ok(read.stdout.equals(Buffer.alloc(8192, 'x')), stderr);
    server.kill('SIGINT');
    const [exitCode, signal] = (await exited) as [number | null, string | null];
    assert.deepEqual([exitCode, signal, stderr], [0, null, '']);
  } finally {
    killGroup(server);
  }
});

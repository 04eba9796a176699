/**
 * The example of docs/fuse-library.md is run as it stands there: mounted, read, unmounted. Needs
 * root.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { temporaryDirectory } from '../support/temporary.ts';
import { mountPointIn, stateOf } from './server.ts';

const root = path.join(import.meta.dirname, '..', '..');
const entryPoint = path.join(root, 'src', 'fuse', 'public.ts');

async function exampleOf(file: string, name: string): Promise<string> {
  const text = await readFile(path.join(root, 'docs', file), 'utf8');
  const [, code] = text.split(`\`\`\`ts ${name}\n`).map((part) => part.split('```')[0] ?? '');
  assert.ok(code !== undefined && code.length > 0, `${file} contains ${name}`);
  return code;
}

test('the hello file system of the documentation works', async () => {
  await using directory = await temporaryDirectory('fuse-doc');
  const mountPoint = await mountPointIn(directory);
  const code = await exampleOf('fuse-library.md', 'hello.ts');
  assert.match(code, /from 'ebb\/fuse'/);
  const script = path.join(directory.path, 'hello.ts');
  await writeFile(path.join(directory.path, 'package.json'), '{"type": "module"}');
  await writeFile(script, code.replaceAll("'ebb/fuse'", JSON.stringify(entryPoint)));
  const server = spawn(process.execPath, [script, mountPoint], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  server.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  const exited = once(server, 'exit');
  try {
    const line = once(createInterface({ input: server.stdout }), 'line');
    await Promise.race([line, exited]);
    assert.equal(server.exitCode, null, stderr);
    assert.match(await stateOf(mountPoint), / fuse\.hello fuse /);
    assert.deepEqual(await readdir(mountPoint), ['hello']);
    assert.equal(await readFile(path.join(mountPoint, 'hello'), 'utf8'), 'Hello from Node!\n');
    await assert.rejects(readFile(path.join(mountPoint, 'other')), { code: 'ENOENT' });
    server.kill('SIGINT');
    const [code, signal] = (await exited) as [number | null, string | null];
    assert.deepEqual([code, signal], [0, null], stderr);
    assert.equal(stderr, '');
    assert.equal(await stateOf(mountPoint), '');
  } finally {
    server.kill('SIGKILL');
  }
});

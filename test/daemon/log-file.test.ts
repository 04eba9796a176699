/** The log file does not grow without end, and nothing of it is lost but what is older than two files. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { logFileWriter } from '../../src/daemon/log-file.ts';
import { scratch } from '../cli/support.ts';
import { runOk } from '../support/run.ts';

test('at its limit the log becomes the old one and begins anew', () => {
  using directory = scratch();
  const file = path.join(directory.path, 'x.log');
  const descriptor = openSync(file, 'a', 0o600);
  try {
    const write = logFileWriter(file, { descriptor, maxBytes: 100 });
    for (let index = 0; index < 25; index += 1) write(`line ${String(index).padStart(3)}\n`);
    const [now, before] = [readFileSync(file, 'utf8'), readFileSync(`${file}.1`, 'utf8')];
    assert.equal(before.split('\n').length - 1, 12);
    assert.match(before, /^line {2}12\n/);
    assert.equal(now, 'line  24\n');
  } finally {
    closeSync(descriptor);
  }
});

test('a log that another start took for an old one is kept from growing, too', () => {
  using directory = scratch();
  const file = path.join(directory.path, 'x.log');
  const descriptor = openSync(`${file}.1`, 'a', 0o600);
  try {
    writeFileSync(file, 'of the other one');
    const write = logFileWriter(file, { descriptor, maxBytes: 100 });
    for (let index = 0; index < 25; index += 1) write(`line ${String(index).padStart(3)}\n`);
    assert.equal(readFileSync(`${file}.1`, 'utf8'), 'line  24\n');
    assert.equal(readFileSync(file, 'utf8'), 'of the other one');
  } finally {
    closeSync(descriptor);
  }
});

test("somebody else's file is left alone", async () => {
  using directory = scratch();
  const [log, other] = [path.join(directory.path, 'x.log'), path.join(directory.path, 'other')];
  writeFileSync(log, '');
  const module = path.join(import.meta.dirname, '../../src/daemon/log-file.ts');
  const script = `const { logFileWriter } = await import(process.argv[1]);
    const write = logFileWriter(process.argv[2], { maxBytes: 10 });
    for (let index = 0; index < 10; index += 1) write('a long line\\n');`;
  const words = `exec "$0" --input-type=module -e "$1" "$2" "$3" 2> "$4"`;
  await runOk('sh', ['-c', words, process.execPath, script, module, log, other]);
  assert.equal(readFileSync(other, 'utf8').length, 120);
  assert.equal(readFileSync(log, 'utf8'), '');
});

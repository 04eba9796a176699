/** An eventfd whose number belongs to another file by now must not be written to. */
import assert from 'node:assert/strict';
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { EventFd } from '../../src/sys/event-fd.ts';

test('a signal after the end reaches nobody, whoever has the number now', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'ebb-eventfd-'));
  const event = EventFd.create();
  assert.equal(event.signal(), 0);
  assert.equal(event.drain(), 1);
  const number = event.fd;
  event[Symbol.dispose]();
  const reused = openSync(path.join(directory, 'innocent'), 'w+');
  try {
    assert.equal(reused, number, 'the kernel gives the lowest free number');
    assert.ok(event.signal() < 0);
    assert.equal(fstatSync(reused).size, 0);
  } finally {
    closeSync(reused);
    rmSync(directory, { recursive: true });
  }
});

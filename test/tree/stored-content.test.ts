/** Writing to one content: one at a time, whatever becomes of the one before. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import { Residency } from '../../src/tree/residency.ts';
import { StoredContent } from '../../src/tree/stored-content.ts';
import type { ContentPort } from '../../src/tree/local-content.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const pieceBytes = 64 * 1024;
const pieces = 8;
const refusedPiece = 2;

test('writes to a content take turns; one that fails holds nobody up', async () => {
  await using directory = await temporaryDirectory('stored-content');
  const file = path.join(directory.path, 'content');
  const fd = openSync(file, 'w+');
  let admitted = 0;
  let under = 0;
  let underMost = 0;
  const port: ContentPort<StoredContent> = {
    use: () => ({ fd, [Symbol.dispose]: () => {} }),
    async admitWrite() {
      admitted += 1;
      if (admitted === refusedPiece + 1) throw ebbError('ENOSPC', 'The disk is full.');
      under += 1;
      underMost = Math.max(underMost, under);
    },
    tryAdmitWrite: () => false,
    writeAtOnce: () => false,
    dirtied: () => {
      under -= 1;
    },
    marked: () => {},
  };
  const sizeBytes = pieces * pieceBytes;
  const content = new StoredContent(
    { id: 1, key: 'key', version: 'v', sizeBytes, handle: new Uint8Array(0), pinned: false },
    Residency.create(sizeBytes),
    port,
  );
  try {
    const writes = Array.from({ length: pieces }, (_unused, index) =>
      content.write(new Uint8Array(pieceBytes).fill(index + 1), index * pieceBytes),
    );
    const outcomes = await Promise.allSettled(writes);
    for (const [index, { status }] of outcomes.entries()) {
      assert.equal(status, index === refusedPiece ? 'rejected' : 'fulfilled');
    }
    assert.equal(underMost, 1);
    assert.equal(content.isWriting, false);
    const stored = readFileSync(file);
    for (let index = 0; index < pieces; index += 1) {
      const piece = stored.subarray(index * pieceBytes, (index + 1) * pieceBytes);
      const expected = index === refusedPiece ? 0 : index + 1;
      assert.ok(piece.length === pieceBytes && piece.every((byte) => byte === expected));
    }
  } finally {
    closeSync(fd);
  }
});

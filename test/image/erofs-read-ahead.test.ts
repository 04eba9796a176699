/** How far the kernel reads ahead in a mounted map: set for it, and for nobody else's. Needs root. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { mountMap } from '../../src/image/erofs/mount-map.ts';
import type { PlainNode } from '../../src/image/erofs/plain-node.ts';
import { newcomer, readingAhead } from '../../src/image/erofs/read-ahead.ts';
import { writeMap } from '../../src/image/erofs/write-map.ts';
import { patternBytes } from '../support/pattern.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const imageBytes = 64 * 1024;
const devices = '/sys/class/bdi';
const root: PlainNode = {
  permissions: 0o755,
  uid: 0,
  gid: 0,
  mtimeSeconds: 0,
  mtimeNanoseconds: 0,
  xattrs: [],
  content: { kind: 'directory', entries: [] },
};

function mapDevices(): Map<string, string> {
  const names = readdirSync(devices).filter((name) => name.startsWith('erofs-'));
  return new Map(
    names.flatMap((name) => {
      try {
        return [[name, readFileSync(path.join(devices, name, 'read_ahead_kb'), 'utf8').trim()]];
      } catch {
        // Another test's, and gone.
        return [];
      }
    }),
  );
}

test('a mounted map reads ahead further than by default', async () => {
  await using directory = await temporaryDirectory('read-ahead');
  const image = path.join(directory.path, 'image');
  writeFileSync(image, patternBytes(3, imageBytes));
  const imageFd = openSync(image, 'r');
  try {
    const map = writeMap([root], { blockBytes: 4096, startBytes: 0, endBytes: imageBytes });
    // Other tests mount maps, too: sooner or later ours is the only one that comes.
    const isAlone = (): boolean => {
      const before = mapDevices();
      using _mounted = readingAhead(() => mountMap(map, imageFd, directory.path));
      const came = [...mapDevices()].filter(([name]) => !before.has(name));
      return came.length === 1 && came[0]?.[1] === '256';
    };
    await waitFor(isAlone, { what: 'a map of ours that reads ahead' });
  } finally {
    closeSync(imageFd);
  }
});

test('it is the only one that came; of several none', () => {
  assert.equal(newcomer(['erofs-3'], ['erofs-3', 'erofs-9']), 'erofs-9');
  assert.equal(newcomer(['erofs-3', 'erofs-4'], ['erofs-4', 'erofs-9']), 'erofs-9');
  assert.equal(newcomer(['erofs-3'], ['erofs-3']), undefined);
  assert.equal(newcomer(['erofs-3'], ['erofs-3', 'erofs-9', 'erofs-10']), undefined);
});

/**
 * Damaged images natively: what the reader still makes of them the kernel's EROFS driver shows, byte for byte, without
 * a word of complaint. EBB_MAP_FUZZ=20000 tries that many, from a new seed. Needs root.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { EbbError } from '../../src/base/errors.ts';
import { memoryDevice } from '../../src/ext4/block-device.ts';
import { openVolume } from '../../src/ext4/volume.ts';
import type { Volume } from '../../src/ext4/volume.ts';
import { mountMap } from '../../src/image/erofs/mount-map.ts';
import type { PlainNode } from '../../src/image/erofs/plain-node.ts';
import { writeMap } from '../../src/image/erofs/write-map.ts';
import { treeNodes } from '../../src/image/server/tree-walk.ts';
import { TreeDecoder, treePieces } from '../../src/image/tree-message.ts';
import { makeSmallTree, makeSubject, subjects } from '../ext4/support/fuzz-subjects.ts';
import { Dice, findTargets, Mutator } from '../ext4/support/mutate.ts';
import { contentOf, walkVolume } from '../ext4/support/walk.ts';
import { KernelLog } from '../support/kernel-log.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const asked = process.env['EBB_MAP_FUZZ'];
const seed = asked === undefined ? 1 : Date.now() % 2 ** 32;
/** Checksums would only keep damage away from what is tested here. */
const damaged = subjects.filter(({ parameters }) =>
  parameters.some((word) => /^ext[23]$|\^metadata_csum/.test(word)),
);
const inputsPerImage = Math.ceil(Number(asked ?? 150) / damaged.length);
/** Of all files of an image together: larger ones take memory here, and time. */
const contentMaxBytes = 32 * 1024 * 1024;
const complaint = /erofs.*(bogus|corrupt|error|fail|invalid|unsupported)|WARNING:|BUG:|Oops/i;

/** The tree as the broker gets it; undefined: the image is refused. */
function treeOf(volume: Volume): readonly PlainNode[] | undefined {
  const image = { volume, startBytes: 0, notes: [], recalled: undefined };
  const tree = new TreeDecoder();
  try {
    for (const piece of treePieces(treeNodes(image))) {
      tree.take(JSON.parse(JSON.stringify(piece)) as object);
    }
  } catch (error) {
    if (error instanceof EbbError) return undefined;
    throw error;
  }
  return tree.nodes;
}

function sizeOf(nodes: readonly PlainNode[]): number {
  const sizes = nodes.map(({ content }) => (content.kind === 'file' ? content.sizeBytes : 0));
  return sizes.reduce((sum, size) => sum + size, 0);
}

function placeOf(root: string, name: string): Buffer {
  return Buffer.concat([Buffer.from(root), Buffer.from(name, 'latin1')]);
}

function sorted(names: readonly Buffer[]): Buffer[] {
  return names.toSorted((left, right) => left.compare(right));
}

/** Names, sizes, targets and bytes: how many of them there are. */
function compare(volume: Volume, root: string): number {
  let count = 0;
  for (const { path: name, inode } of walkVolume(volume)) {
    count += 1;
    const place = placeOf(root, name);
    assert.equal(lstatSync(place).mode, inode.mode, name);
    if (inode.type === 'directory') {
      const names = [...volume.entries(inode, 0)].map((entry) => Buffer.from(entry.name));
      const seen = readdirSync(place, { encoding: 'buffer' });
      assert.deepEqual(sorted(seen), sorted(names), name);
    } else if (inode.type === 'symlink') {
      const target = readlinkSync(place, { encoding: 'buffer' });
      assert.ok(target.equals(volume.symlinkTarget(inode)), name);
    } else if (inode.type === 'file') {
      assert.ok(readFileSync(place).equals(contentOf(volume, inode)), name);
    }
  }
  return count;
}

for (const [index, subject] of damaged.entries()) {
  test(`damaged images of ${subject.name} are natively what the reader says, or are refused`, async (t) => {
    await using scratch = await temporaryDirectory('damaged-maps');
    using log = new KernelLog();
    const image = await makeSubject(scratch.path, await makeSmallTree(scratch.path), subject);
    const file = openSync(path.join(scratch.path, subject.name), 'r+');
    try {
      const sound = memoryDevice(image);
      const { blockSizeBytes: blockBytes } = openVolume(sound).superblock;
      const mutator = new Mutator(image, findTargets(image, sound), blockBytes);
      let shown = 0;
      for (let input = 0; input < inputsPerImage; input += 1) {
        const what = `seed ${seed}, ${subject.name}, input ${input}`;
        mutator.mutate(new Dice((seed + index * 0x9e3779b1 + input * 0x85ebca6b) >>> 0));
        try {
          const volume = openVolumeOrNone(image);
          const nodes = volume === undefined ? undefined : treeOf(volume);
          if (volume === undefined || nodes === undefined || sizeOf(nodes) > contentMaxBytes)
            continue;
          writeSync(file, image, 0, image.length, 0);
          const area = { blockBytes, startBytes: 0, endBytes: image.length };
          using mounted = mountMap(writeMap(nodes, area), file, scratch.path);
          assert.ok(compare(volume, `/proc/self/fd/${mounted.fd}/.`) > 0);
          shown += 1;
        } catch (error) {
          throw new Error(what, { cause: error });
        } finally {
          mutator.undo();
        }
        const said = log.lines().filter((line) => complaint.test(line));
        assert.deepEqual(said, [], what);
      }
      t.diagnostic(`${shown} of ${inputsPerImage} shown`);
      assert.ok(shown > inputsPerImage / 10, `${shown} of ${inputsPerImage}`);
    } finally {
      closeSync(file);
    }
  });
}

function openVolumeOrNone(image: Uint8Array): Volume | undefined {
  try {
    return openVolume(memoryDevice(image));
  } catch (error) {
    if (error instanceof EbbError) return undefined;
    throw error;
  }
}

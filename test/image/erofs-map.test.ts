/** The EROFS map, read by the kernel, against the plain tree that it was made of. Needs root. */
import assert from 'node:assert/strict';
import {
  closeSync,
  lstatSync,
  openSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { chunksOf, mergeExtents } from '../../src/image/erofs/chunks.ts';
import { mountMap } from '../../src/image/erofs/mount-map.ts';
import { checkTree } from '../../src/image/erofs/plain-node.ts';
import type { PlainEntry, PlainExtent, PlainNode } from '../../src/image/erofs/plain-node.ts';
import { mapMaxBytes, writeMap } from '../../src/image/erofs/write-map.ts';
import { TreeDecoder } from '../../src/image/tree-message.ts';
import { decodeName } from '../../src/base/name.ts';
import { getXattr } from '../../src/sys/xattr.ts';
import { patternBytes } from '../support/pattern.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const imageBytes = 4 * 1024 * 1024;
const imageSeed = 7;
const runs = Number(process.env['EBB_MAP_RUNS'] ?? '40');

interface Shape {
  readonly blockBits: number;
  readonly files: readonly {
    readonly name: string;
    readonly parent: number;
    readonly kind: 'file' | 'inline' | 'symlink' | 'directory' | 'fifo' | 'character';
    readonly pieces: readonly {
      readonly skip: number;
      readonly at: number;
      readonly blocks: number;
    }[];
    readonly cut: number;
    readonly size: number;
    readonly xattr: number;
    readonly seconds: number;
  }[];
}

const shapes: fc.Arbitrary<Shape> = fc.record({
  blockBits: fc.constantFrom(9, 10, 11, 12),
  files: fc.array(
    fc.record({
      name: fc
        .string({ minLength: 1, maxLength: 200, unit: 'grapheme' })
        .map((text) =>
          Buffer.from(text.replaceAll(/[/\0]/g, '_')).subarray(0, 250).toString('latin1'),
        ),
      parent: fc.nat(5),
      kind: fc.constantFrom(
        'file',
        'file',
        'file',
        'inline',
        'symlink',
        'directory',
        'fifo',
        'character',
      ),
      pieces: fc.array(
        fc.record({
          skip: fc.oneof(fc.constant(0), fc.nat(40)),
          at: fc.nat(900),
          blocks: fc.integer({ min: 1, max: 70 }),
        }),
        { maxLength: 8 },
      ),
      cut: fc.nat(4095),
      size: fc.nat(20_000),
      xattr: fc.oneof(fc.constant(0), fc.nat(3000)),
      seconds: fc.integer({ min: -(2 ** 31), max: 2 ** 34 }),
    }),
    { maxLength: 80 },
  ),
});

/** A tree of that shape, and what each file must read as. */
function treeOf(shape: Shape): {
  nodes: PlainNode[];
  expected: Map<string, Buffer>;
  names: string[];
} {
  const blockBytes = 2 ** shape.blockBits;
  const image = patternBytes(imageSeed, imageBytes);
  const owner = { uid: 4_000_000_000, gid: 70_000, mtimeNanoseconds: 123_456_789 };
  const root: PlainEntry[] = [];
  const directories = [{ path: '', entries: root, names: new Set<string>() }];
  const nodes: PlainNode[] = [
    {
      ...owner,
      permissions: 0o755,
      mtimeSeconds: 1,
      xattrs: [],
      content: { kind: 'directory', entries: root },
    },
  ];
  const expected = new Map<string, Buffer>();
  const names: string[] = [];
  for (const file of shape.files) {
    const parent = directories[file.parent % directories.length];
    if (parent === undefined || file.name === '.' || file.name === '..' || file.name === '')
      continue;
    if (parent.names.has(file.name)) continue;
    parent.names.add(file.name);
    const name = `${parent.path}/${file.name}`;
    names.push(name);
    const xattrs =
      file.xattr === 0 || file.kind === 'symlink'
        ? []
        : [{ name: Buffer.from('user.ebb'), value: patternBytes(3, file.xattr) }];
    const common = { ...owner, permissions: 0o4751, mtimeSeconds: file.seconds, xattrs };
    parent.entries.push({ name: Buffer.from(file.name, 'latin1'), node: nodes.length });
    switch (file.kind) {
      case 'file': {
        const extents: PlainExtent[] = [];
        let at = 0;
        for (const piece of file.pieces) {
          at += piece.skip * blockBytes;
          const lengthBytes = piece.blocks * blockBytes;
          const imageOffsetBytes = piece.at * blockBytes;
          extents.push({ fileOffsetBytes: at, imageOffsetBytes, lengthBytes });
          at += lengthBytes;
        }
        const bytes = Buffer.alloc(at);
        for (const extent of extents) {
          image.copy(
            bytes,
            extent.fileOffsetBytes,
            extent.imageOffsetBytes,
            extent.imageOffsetBytes + extent.lengthBytes,
          );
        }
        const sizeBytes = at === 0 ? file.size : at - (file.cut % blockBytes);
        expected.set(name, at === 0 ? Buffer.alloc(sizeBytes) : bytes.subarray(0, sizeBytes));
        nodes.push({ ...common, content: { kind: 'file', sizeBytes, extents } });
        break;
      }
      case 'inline':
        expected.set(name, patternBytes(nodes.length, file.size));
        nodes.push({
          ...common,
          content: { kind: 'inline', bytes: patternBytes(nodes.length, file.size) },
        });
        break;
      case 'symlink': {
        const target = Buffer.from('x'.repeat(1 + (file.size % 4095)));
        expected.set(name, target);
        nodes.push({ ...common, content: { kind: 'symlink', target } });
        break;
      }
      case 'directory': {
        const entries: PlainEntry[] = [];
        directories.push({ path: name, entries, names: new Set() });
        nodes.push({ ...common, content: { kind: 'directory', entries } });
        break;
      }
      case 'fifo':
        nodes.push({ ...common, content: { kind: 'fifo' } });
        break;
      default:
        nodes.push({ ...common, content: { kind: 'character', major: 300, minor: 70_000 } });
    }
  }
  return { nodes, expected, names };
}

/** Names are bytes: below, one character of a string is one byte. */
function listed(root: string, below = ''): string[] {
  const directory = Buffer.concat([Buffer.from(root), Buffer.from(below, 'latin1')]);
  const found: string[] = [];
  for (const entry of readdirSync(directory, { encoding: 'buffer', withFileTypes: true })) {
    const name = `${below}/${entry.name.toString('latin1')}`;
    found.push(name);
    if (entry.isDirectory()) found.push(...listed(root, name));
  }
  return found;
}

test('the kernel reads from a map what the plain tree says: names, bytes, holes, attributes', async () => {
  await using directory = await temporaryDirectory('map');
  const image = path.join(directory.path, 'image');
  writeFileSync(image, patternBytes(imageSeed, imageBytes));
  const imageFd = openSync(image, 'r');
  try {
    fc.assert(
      fc.property(shapes, (shape) => {
        const { nodes, expected, names } = treeOf(shape);
        const blockBytes = 2 ** shape.blockBits;
        const map = writeMap(nodes, { blockBytes, startBytes: 0, endBytes: imageBytes });
        using mounted = mountMap(map, imageFd, directory.path);
        const root = `/proc/self/fd/${mounted.fd}/.`;
        assert.deepEqual(listed(root).toSorted(), names.toSorted());
        for (const [name, bytes] of expected) {
          const file = Buffer.concat([Buffer.from(root), Buffer.from(name, 'latin1')]);
          const stat = lstatSync(file);
          const read = stat.isSymbolicLink() ? readlinkSync(file, 'buffer') : readFileSync(file);
          assert.ok(read.equals(bytes), `${name} has its bytes`);
        }
        for (const [index, name] of names.entries()) {
          const file = Buffer.concat([Buffer.from(root), Buffer.from(name, 'latin1')]);
          const stat = lstatSync(file, { bigint: true });
          const node = nodes[index + 1] as PlainNode;
          assert.equal(stat.mtimeNs, BigInt(node.mtimeSeconds) * 1_000_000_000n + 123_456_789n);
          assert.equal(Number(stat.mode) & 0o7777, node.permissions);
          assert.deepEqual([Number(stat.uid), Number(stat.gid)], [node.uid, node.gid]);
          if (stat.isCharacterDevice())
            assert.equal(stat.rdev, (300n << 8n) | (70_000n & 0xffn) | ((70_000n & ~0xffn) << 12n));
          for (const xattr of node.xattrs.filter(
            () => !stat.isFIFO() && !stat.isCharacterDevice(),
          )) {
            assert.deepEqual(
              Buffer.from(getXattr(decodeName(file), 'user.ebb') ?? []),
              xattr.value,
            );
          }
        }
      }),
      { numRuns: runs },
    );
  } finally {
    closeSync(imageFd);
  }
});

test('chunks are as large as the extents allow, and neighbours are one extent', () => {
  const block = 4096;
  const extent = (file: number, image: number, blocks: number): PlainExtent => ({
    fileOffsetBytes: file * block,
    imageOffsetBytes: image * block,
    lengthBytes: blocks * block,
  });
  assert.deepEqual(mergeExtents([extent(0, 7, 3), extent(3, 10, 1), extent(4, 12, 1)]), [
    extent(0, 7, 4),
    extent(4, 12, 1),
  ]);
  const whole = chunksOf([extent(0, 7, 100)], 100 * block - 1, block);
  assert.deepEqual(whole, { chunkBits: 7, chunkCount: 1 });
  const split = chunksOf([extent(0, 7, 64), extent(64, 200, 36)], 100 * block, block);
  assert.deepEqual(split, { chunkBits: 6, chunkCount: 2 });
  const odd = chunksOf([extent(0, 7, 63), extent(64, 200, 36)], 100 * block, block);
  assert.deepEqual(odd, { chunkBits: 0, chunkCount: 100 });
});

const plain = {
  permissions: 0o644,
  uid: 0,
  gid: 0,
  mtimeSeconds: 0,
  mtimeNanoseconds: 0,
  xattrs: [],
};
const area = { blockBytes: 4096, startBytes: 8192, endBytes: 1024 * 1024 };

function fileWith(extents: readonly PlainExtent[], sizeBytes = 65_536): PlainNode[] {
  return [
    { ...plain, content: { kind: 'directory', entries: [{ name: Buffer.from('f'), node: 1 }] } },
    { ...plain, content: { kind: 'file', sizeBytes, extents } },
  ];
}

function run(fileOffsetBytes: number, imageOffsetBytes: number, lengthBytes: number): PlainExtent {
  return { fileOffsetBytes, imageOffsetBytes, lengthBytes };
}

test('extents that are outside, unordered, overlapping, misaligned or absurd make no map', () => {
  checkTree(fileWith([run(0, 8192, 4096), run(8192, 8192, 57_344)]), area);
  const wrong: readonly (readonly PlainExtent[])[] = [
    [run(0, 4096, 4096)],
    [run(0, 1024 * 1024 - 4096, 8192)],
    [run(0, 2 ** 50, 4096)],
    [run(0, 8192, 8192), run(4096, 20_480, 4096)],
    [run(4096, 8192, 4096), run(0, 8192, 4096)],
    [run(0, 8193, 4096)],
    [run(1, 8192, 4096)],
    [run(0, 8192, 100)],
    [run(0, 8192, 0)],
    [run(0, 8192, -4096)],
    [run(-4096, 8192, 8192)],
    [run(61_440, 8192, 8192)],
    [run(0, Number.NaN, 4096)],
    [run(0, 8192, Infinity)],
    [run(0, 8192.5, 4096)],
  ];
  for (const extents of wrong) {
    assert.throws(
      () => writeMap(fileWith(extents), area),
      { code: 'EUCLEAN' },
      JSON.stringify(extents),
    );
  }
  for (const size of [-1, 0.5, Number.NaN, 2 ** 60]) {
    assert.throws(() => writeMap(fileWith([], size), area), { code: 'EUCLEAN' });
  }
});

test('what lies behind the last address of a map makes none, also where it begins before', () => {
  const blockBytes = 512;
  const far = { blockBytes, startBytes: 0, endBytes: 2 ** 45 };
  const end = (2 ** 32 - 1) * blockBytes;
  writeMap(fileWith([run(0, end - 8192, 8192)]), far);
  for (const extent of [run(0, end - 4096, 8192), run(0, end, 512), run(0, 2 ** 42, 512)]) {
    assert.throws(() => writeMap(fileWith([extent]), far), { code: 'EUCLEAN' });
  }
});

test('a tree of more entries than memory is meant for is refused before they are made', () => {
  const a = [0o755, 0, 0, 0, 0];
  const nodes = [{ a, k: 'directory', d: [['a', 1]] }];
  assert.equal(new TreeDecoder().take({ nodes, isLast: true }), true);
  const decoder = new TreeDecoder();
  assert.equal(decoder.take({ nodes, isLast: false }), false);
  const more = { more: true, d: Array.from({ length: 2 ** 23 }) };
  assert.throws(() => decoder.take({ nodes: [more], isLast: false }), { code: 'EFBIG' });
});

test('names and directories that are no tree make no map', () => {
  const leaf: PlainNode = { ...plain, content: { kind: 'fifo' } };
  const directory = (
    ...entries: readonly (readonly [name: string, node: number])[]
  ): PlainNode => ({
    ...plain,
    content: {
      kind: 'directory',
      entries: entries.map(([name, node]) => ({ name: Buffer.from(name, 'latin1'), node })),
    },
  });
  checkTree([directory(['a', 1], ['b', 2], ['c', 2]), directory(), leaf], area);
  const wrong: readonly (readonly PlainNode[])[] = [
    [],
    [leaf],
    ...['', '.', '..', 'a/b', 'a\0', 'x'.repeat(256)].map((name) => [directory([name, 1]), leaf]),
    [directory(['a', 1], ['a', 1]), leaf],
    [directory(['a', 2]), leaf],
    [directory(['a', 1])],
    [directory(['a', -1])],
    [directory(['a', 0])],
    [directory(['a', 1], ['b', 1]), directory()],
    [directory(['a', 1]), directory(['b', 1])],
    [directory(), directory(['b', 2]), directory(['a', 1])],
    [directory(['a', 1]), { ...plain, content: { kind: 'symlink', target: Buffer.from('a\0b') } }],
    [directory(['a', 1]), { ...plain, content: { kind: 'symlink', target: Buffer.alloc(0) } }],
    [directory(['a', 1]), { ...plain, content: { kind: 'character', major: 4096, minor: 0 } }],
    [directory(['a', 1]), { ...leaf, permissions: 0o10000 }],
    [directory(['a', 1]), { ...leaf, uid: -1 }],
    [directory(['a', 1]), { ...leaf, mtimeNanoseconds: 1e9 }],
    ...['security.capability', 'trusted.x', 'user.', 'userx', ''].map((name) => [
      directory(['a', 1]),
      { ...leaf, xattrs: [{ name: Buffer.from(name), value: Buffer.alloc(1) }] },
    ]),
  ];
  for (const nodes of wrong) assert.throws(() => writeMap(nodes, area), { code: 'EUCLEAN' });
});

test('a map has a largest size', () => {
  const blocks = mapMaxBytes / 8;
  // Two extents with a seam at an odd block: 8 bytes for each block.
  const extents = [run(0, 8192, 4096), run(8192, 8192, 4096)];
  assert.throws(() => writeMap(fileWith(extents, blocks * 4096), area), {
    code: 'EFBIG',
    message: /without -o native/,
  });
});

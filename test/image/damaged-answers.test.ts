/**
 * Damaged images, as the kernel is told of them: each request has one answer, and no number or name in it is one that
 * the kernel cannot take. EBB_FUZZ_RUNS: how many of each kind (10), EBB_SEED: which.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { EbbError } from '../../src/base/errors.ts';
import { memoryDevice } from '../../src/ext4/block-device.ts';
import { openVolume } from '../../src/ext4/volume.ts';
import type { Volume } from '../../src/ext4/volume.ts';
import type { Attributes } from '../../src/fuse/filesystem.ts';
import { checkExtents } from '../../src/image/erofs/plain-node.ts';
import { decodeMapRequest, encodeMapRequest } from '../../src/image/messages.ts';
import type { FilePlaces } from '../../src/image/messages.ts';
import { ImageFileSystem } from '../../src/image/server/filesystem.ts';
import { makeSmallTree, makeSubject, subjects } from '../ext4/support/fuzz-subjects.ts';
import { Dice, findTargets, Mutator } from '../ext4/support/mutate.ts';
import { FakeKernel } from '../mount/fake-call.ts';
import type { FakeCall, Reply } from '../mount/fake-call.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const runs = Number(process.env['EBB_FUZZ_RUNS'] ?? 10);
const seed = Number(process.env['EBB_SEED'] ?? 1);
const entriesMax = 400;
const depthMax = 20;
const readBytes = 20_000;
const rootNode = 1;
const seekWords = [3, 4];
const typeMask = 0o170000;
const typeOf = { directory: 0o040000, file: 0o100000, symlink: 0o120000 } as const;
/** S_IFMT of stat.h. */
const types = [0o010000, 0o020000, 0o040000, 0o060000, 0o100000, 0o120000, 0o140000];

/** The kernel with a mount of one image; asks for all that there is, up to a limit. */
class Asking {
  entries = 0;
  readonly #kernel = new FakeKernel();
  readonly #fs: ImageFileSystem;
  readonly #volume: Volume;

  constructor(volume: Volume, fd: number, imageBytes: number) {
    this.#volume = volume;
    const area = { blockBytes: 1024, startBytes: 0, endBytes: imageBytes };
    let lastId = 0;
    const request = (places: FilePlaces): number => {
      const { extents, sizeBytes } = decodeMapRequest(encodeMapRequest(places)) ?? assert.fail();
      checkExtents(extents, sizeBytes, area);
      return (lastId += 1);
    };
    const backings = { request, again: () => -2, release: () => undefined };
    const image = { volume, startBytes: 0, notes: [], recalled: undefined };
    this.#fs = new ImageFileSystem(image, fd, { backings });
  }

  all(): void {
    this.#ask((call) => this.#fs.statfs(call));
    const pending = [{ node: rootNode, depth: 0 }];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const { node, depth } = next;
      for (const below of this.#list(node)) {
        if (depth < depthMax) pending.push({ node: below, depth: depth + 1 });
      }
    }
  }

  #ask(request: (call: FakeCall) => void, directoryEntries?: number): Reply {
    const call = this.#kernel.call(directoryEntries === undefined ? {} : { directoryEntries });
    request(call);
    return call.reply ?? assert.fail('a request has no answer');
  }

  /** Directories in it. */
  #list(node: number): number[] {
    const below: number[] = [];
    const opened = this.#ask((call) => this.#fs.opendir(call, node));
    if (opened.kind !== 'opened') return below;
    const { fileHandle } = opened;
    for (let offset = 0; this.entries < entriesMax;) {
      const start = offset;
      const listed = this.#ask((call) => this.#fs.readdir(call, node, fileHandle, start, true), 20);
      if (listed.kind !== 'directory' || listed.entries.length === 0) break;
      for (const { name, nextOffset, entry } of listed.entries) {
        this.entries += 1;
        assert.ok(nextOffset > offset && Number.isSafeInteger(nextOffset), 'places rise');
        offset = nextOffset;
        assert.doesNotMatch(name, /[/\0]|^$/);
        if (entry === undefined) continue;
        assert.ok(entry.nodeId > rootNode && entry.nodeId < 2 ** 32, `node ${entry.nodeId}`);
        this.#examine(entry.nodeId, entry.attributes);
        if ((entry.attributes.mode & typeMask) === typeOf.directory) below.push(entry.nodeId);
      }
    }
    this.#ask((call) => this.#fs.releasedir(call, node, fileHandle));
    return below;
  }

  #examine(node: number, attributes: Attributes): void {
    checkAttributes(attributes);
    const type = attributes.mode & typeMask;
    const names = this.#ask((call) => this.#fs.listxattr(call, node, 65_536));
    if (names.kind === 'data') {
      for (const name of names.bytes.toString('latin1').split('\0').slice(0, -1)) {
        assert.match(name, /^(user\.|system\.posix_acl_)/);
        const bytes = Buffer.from(name, 'latin1');
        this.#ask((call) => this.#fs.getxattr(call, node, bytes, 65_536));
      }
    }
    if (type === typeOf.symlink) {
      const target = this.#ask((call) => this.#fs.readlink(call, node));
      if (target.kind === 'data') assert.ok(target.bytes.length > 0 && target.bytes.length < 4096);
    }
    if (type === typeOf.file) this.#read(node, attributes.sizeBytes);
  }

  #read(node: number, size: number): void {
    const opened = this.#ask((call) => this.#fs.open(call, node, 0));
    if (opened.kind !== 'opened') return;
    const { fileHandle } = opened;
    for (const at of [0, 512, Math.floor(size / 2), Math.max(0, size - 10), size, size + 5000]) {
      const read = this.#ask((call) => this.#fs.read(call, node, fileHandle, at, readBytes));
      if (read.kind === 'data') {
        const right = Buffer.alloc(Math.max(0, Math.min(readBytes, size - at)));
        // Behind the end there is nothing to read, of an encrypted file, either.
        if (right.length > 0) this.#volume.read(this.#volume.inode(node), at, right);
        assert.ok(read.bytes.equals(right), `${right.length} bytes at ${at}`);
      }
      for (const whence of seekWords) {
        const found = this.#ask((call) => this.#fs.lseek(call, node, fileHandle, at, whence));
        if (found.kind === 'offset') assert.ok(found.value >= at && found.value <= size);
      }
    }
    this.#ask((call) => this.#fs.release(call, node, fileHandle));
  }
}

/** What struct fuse_attr can hold, and what fuse_valid_type and fuse_valid_size of the kernel let through. */
function checkAttributes(said: Attributes): void {
  assert.ok(types.includes(said.mode & typeMask), said.mode.toString(8));
  for (const value of [said.uid, said.gid, said.nlink, said.rdev, said.mode]) {
    assert.ok(Number.isInteger(value) && value >= 0 && value < 2 ** 32);
  }
  for (const value of [said.sizeBytes, said.blocks]) {
    assert.ok(Number.isInteger(value) && value >= 0 && value < 2 ** 63);
  }
  for (const value of [said.atimeSeconds, said.mtimeSeconds, said.ctimeSeconds]) {
    assert.ok(Number.isSafeInteger(value));
  }
  for (const value of [said.atimeNanoseconds, said.mtimeNanoseconds, said.ctimeNanoseconds]) {
    assert.ok(Number.isInteger(value) && value >= 0 && value < 1e9);
  }
}

function openVolumeOrNone(image: Uint8Array, verifyChecksums: boolean): Volume | undefined {
  try {
    const volume = openVolume(memoryDevice(image), { verifyChecksums });
    volume.root();
    return volume;
  } catch (error) {
    if (error instanceof EbbError) return undefined;
    throw error;
  }
}

for (const [index, subject] of subjects.entries()) {
  test(`of damaged images of ${subject.name} the kernel hears nothing that it cannot take`, async () => {
    await using scratch = await temporaryDirectory('answers');
    const image = await makeSubject(scratch.path, await makeSmallTree(scratch.path), subject);
    const fd = openSync(path.join(scratch.path, subject.name), 'r+');
    try {
      const sound = memoryDevice(image);
      const { blockSizeBytes } = openVolume(sound).superblock;
      const mutator = new Mutator(image, findTargets(image, sound), blockSizeBytes);
      let entries = 0;
      for (let input = 0; input < runs; input += 1) {
        const dice = new Dice((seed + index * 0x9e3779b1 + input * 0x85ebca6b) >>> 0);
        mutator.mutate(dice);
        try {
          const volume = openVolumeOrNone(image, dice.below(4) === 0);
          if (volume === undefined) continue;
          writeSync(fd, image, 0, image.length, 0);
          const asking = new Asking(volume, fd, image.length);
          asking.all();
          entries += asking.entries;
        } catch (error) {
          throw new Error(`seed ${seed}, ${subject.name}, input ${input}`, { cause: error });
        } finally {
          mutator.undo();
        }
      }
      assert.ok(entries > runs * 20, `${entries} entries`);
    } finally {
      closeSync(fd);
    }
  });
}

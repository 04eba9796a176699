/**
 * The codecs against bytes that a C compiler made from the kernel's header, and against themselves.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { opcodeCount } from '../../src/fuse/constants.ts';
import { ProtocolError, WireBuffer } from '../../src/fuse/wire/buffer.ts';
import {
  encodeAttrOut,
  encodeEntry,
  encodeOpen,
  encodeStatfs,
} from '../../src/fuse/wire/encode.ts';
import {
  decodeReply,
  decodeRequest,
  encodeReply,
  encodeRequest,
} from '../../src/fuse/wire/message.ts';
import { replyShapes } from '../../src/fuse/wire/replies.ts';
import * as replies from '../../src/fuse/wire/replies.ts';
import { requestShapes } from '../../src/fuse/wire/requests.ts';
import * as requests from '../../src/fuse/wire/requests.ts';
import type { Extension } from '../../src/fuse/wire/message.ts';
import type { Struct } from '../../src/fuse/wire/struct.ts';

interface Golden {
  readonly values: Record<string, number>;
  readonly bytes: string;
}

/**
 * Made once by a C program with one distinct value per field, from linux/fuse.h 7.38
 * (linux-libc-dev 6.1) plus the structs that 7.39 to 7.45 added, copied from the header of Linux
 * 6.18.
 */
const goldens = JSON.parse(
  readFileSync(new URL('./golden/structs.json', import.meta.url), 'utf8'),
) as Record<string, Golden>;

const isStruct = (value: unknown): value is Struct =>
  typeof value === 'object' && value !== null && 'offsets' in value;
const exported: readonly unknown[] = [...Object.values(requests), ...Object.values(replies)];
const structs = exported.filter(isStruct);

test('there is a golden for every struct', () => {
  assert.deepEqual(Object.keys(goldens).sort(), structs.map(({ name }) => name).sort());
  assert.ok(structs.length >= 60);
});

for (const struct of structs) {
  test(`${struct.name} has the layout of the C compiler`, () => {
    const { values, bytes } = goldens[struct.name] as Golden;
    const buffer = new WireBuffer(512);
    buffer.bytes.fill(0xee);
    struct.encode(buffer, 8, values);
    assert.equal(struct.sizeBytes, bytes.length / 2);
    assert.equal(
      Buffer.from(buffer.bytes.subarray(8, 8 + struct.sizeBytes)).toString('hex'),
      bytes,
    );
    assert.equal(buffer.bytes[8 + struct.sizeBytes], 0xee, 'nothing behind it was touched');
    const back = new WireBuffer(512);
    back.bytes.set(Buffer.from(bytes, 'hex'), 16);
    assert.deepEqual(struct.decode(back, 16), values);
  });
}

function golden(name: string): { values: Record<string, number>; bytes: Buffer } {
  const { values, bytes } = goldens[name] as Golden;
  return { values, bytes: Buffer.from(bytes, 'hex') };
}

function attributesOf(values: Record<string, number>): Parameters<typeof encodeAttrOut>[2] {
  const value = (field: string): number => values[field] ?? 0;
  return {
    ino: value('ino'),
    sizeBytes: value('size'),
    blocks: value('blocks'),
    atimeSeconds: value('atime'),
    mtimeSeconds: value('mtime'),
    ctimeSeconds: value('ctime'),
    atimeNanoseconds: value('atimensec'),
    mtimeNanoseconds: value('mtimensec'),
    ctimeNanoseconds: value('ctimensec'),
    mode: value('mode'),
    nlink: value('nlink'),
    uid: value('uid'),
    gid: value('gid'),
    rdev: value('rdev'),
    blockSizeBytes: value('blksize'),
  };
}

test('the fast encoders write the same bytes', () => {
  const buffer = new WireBuffer(512);
  buffer.bytes.fill(0xee);
  const attr = golden('fuse_attr_out');
  encodeAttrOut(buffer, 0, attributesOf(attr.values), 1_234_567.25);
  assert.equal(buffer.u64(0), 1234);
  assert.equal(buffer.u32(8), 567_250_000);
  assert.equal(buffer.u32(12), 0);
  const withoutFlags = (bytes: Buffer, from: number): string =>
    bytes.subarray(from, bytes.length - 4).toString('hex');
  assert.equal(
    withoutFlags(Buffer.from(buffer.bytes.subarray(0, 104)), 16),
    withoutFlags(attr.bytes, 16),
  );

  const entry = golden('fuse_entry_out');
  encodeEntry(buffer, 128, {
    nodeId: entry.values.nodeid ?? 0,
    generation: 0xdead_beef,
    entryTimeoutMs: 2500,
    attributeTimeoutMs: Number.POSITIVE_INFINITY,
    attributes: attributesOf(entry.values),
  });
  assert.equal(buffer.u64(128), entry.values.nodeid);
  assert.equal(buffer.u64(136), 0xdead_beef);
  assert.equal(buffer.u64(144), 2);
  assert.equal(buffer.u32(160), 500_000_000);
  assert.equal(buffer.u64(152), 0x7fff_ffff, 'for ever is the longest timeout');
  assert.equal(buffer.u32(164), 0);
  assert.equal(
    withoutFlags(Buffer.from(buffer.bytes.subarray(128, 256)), 40),
    withoutFlags(entry.bytes, 40),
  );

  const open = golden('fuse_open_out');
  const { fh = 0, open_flags: flags = 0, backing_id: backing = 0 } = open.values;
  encodeOpen(buffer, 0, fh, flags, backing);
  assert.equal(
    Buffer.from(buffer.bytes.subarray(0, 16)).toString('hex'),
    open.bytes.toString('hex'),
  );

  const { values, bytes } = golden('fuse_statfs_out');
  encodeStatfs(buffer, 0, {
    blocks: values.blocks ?? 0,
    blocksFree: values.bfree ?? 0,
    blocksAvailable: values.bavail ?? 0,
    files: values.files ?? 0,
    filesFree: values.ffree ?? 0,
    blockSizeBytes: values.bsize ?? 0,
    nameMaxBytes: values.namelen ?? 0,
    fragmentSizeBytes: values.frsize ?? 0,
  });
  bytes.fill(0, 52, 56);
  assert.equal(Buffer.from(buffer.bytes.subarray(0, 80)).toString('hex'), bytes.toString('hex'));
});

test('64-bit numbers are exact or refused', () => {
  const buffer = new WireBuffer(16);
  fc.assert(
    fc.property(fc.maxSafeInteger(), (value) => {
      buffer.set64(0, value);
      const view = new DataView(buffer.bytes.buffer);
      assert.equal(view.getBigInt64(0, true), BigInt(value));
      assert.equal(buffer.i64(0), value);
      if (value >= 0) assert.equal(buffer.u64(0), value);
      else assert.throws(() => buffer.u64(0), ProtocolError);
    }),
  );
  fc.assert(
    fc.property(fc.bigInt({ min: 1n << 53n, max: (1n << 64n) - 1n }), (value) => {
      new DataView(buffer.bytes.buffer).setBigUint64(0, value, true);
      assert.throws(() => buffer.u64(0), ProtocolError);
      assert.equal(buffer.token(0), Number(value & ((1n << 53n) - 1n)));
    }),
  );
});

/** deepEqual looks at prototypes, too. */
const plain = { noNullPrototype: true };
const name = fc
  .uint8Array({ minLength: 1, maxLength: 255 })
  .map((bytes) => bytes.map((b) => b || 1));
const data = fc.uint8Array({ maxLength: 300 });

function fieldValues(struct: Struct | undefined): fc.Arbitrary<Record<string, number>> {
  const limits = { u16: 0xffff, u32: 0xffff_ffff, i32: 0x7fff_ffff } as Record<string, number>;
  const model = Object.entries(struct?.fields ?? {}).map(([field, kind]) => {
    const max = limits[kind] ?? Number.MAX_SAFE_INTEGER;
    return [field, fc.integer({ min: kind.startsWith('i') ? -max : 0, max })] as const;
  });
  return fc.record(Object.fromEntries(model), plain);
}

const extension: fc.Arbitrary<Extension> = fc.oneof(
  fc.record(
    {
      kind: fc.constant('groups' as const),
      groups: fc.array(fc.integer({ min: 0, max: 0xffff_ffff }), { maxLength: 5 }),
    },
    plain,
  ),
  fc.record(
    {
      kind: fc.constant('security' as const),
      contexts: fc.array(fc.record({ name, value: data }, plain), { maxLength: 3 }),
    },
    plain,
  ),
);

test('every request survives encoding and decoding', () => {
  const buffer = new WireBuffer(8192);
  const opcodes = [...requestShapes.keys()];
  assert.equal(opcodes.length, opcodeCount - 3, '1 to 53 without 7 and 19');
  for (const opcode of opcodes) {
    const shape = requestShapes.get(opcode);
    const header = {
      opcode: fc.constant(opcode),
      unique: fc.maxSafeNat(),
      resent: fc.boolean(),
      nodeId: fc.maxSafeNat(),
      uid: fc.nat(),
      gid: fc.nat(),
      pid: fc.nat(),
      body: fieldValues(shape?.body),
      names: fc.array(name, { minLength: shape?.names, maxLength: shape?.names }),
      data: shape?.hasData === true ? data : fc.constant(new Uint8Array(0)),
      extensions: shape?.hasData === true ? fc.constant([]) : fc.array(extension, { maxLength: 2 }),
    };
    fc.assert(
      fc.property(fc.record(header, plain), (message) => {
        const length = encodeRequest(buffer, message);
        const decoded = decodeRequest(buffer, length);
        // Without bytes at the end, the padding before extensions belongs to nobody.
        assert.deepEqual(decoded, { ...message, data: new Uint8Array(message.data) });
      }),
      { numRuns: 20 },
    );
  }
});

test('every answer survives encoding and decoding', () => {
  const buffer = new WireBuffer(8192);
  for (const [opcode, shape] of replyShapes) {
    const message = fc.record(
      {
        unique: fc.maxSafeNat(),
        resent: fc.boolean(),
        errno: fc.constant(0),
        bodies: fc.tuple(...shape.structs.map((struct) => fieldValues(struct))),
        data: shape.hasData ? data : fc.constant(new Uint8Array(0)),
      },
      plain,
    );
    fc.assert(
      fc.property(message, (reply) => {
        const length = encodeReply(buffer, opcode, reply);
        assert.deepEqual(decodeReply(buffer, length, opcode), {
          ...reply,
          data: new Uint8Array(reply.data),
        });
      }),
      { numRuns: 20 },
    );
  }
});

test('broken messages are refused, never half understood', () => {
  const buffer = new WireBuffer(4096);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 600 }),
      fc.integer({ min: 1, max: 60 }),
      (bytes, opcode) => {
        buffer.bytes.fill(0);
        buffer.bytes.set(bytes);
        buffer.setU32(0, bytes.length);
        buffer.setU32(4, opcode);
        try {
          decodeRequest(buffer, bytes.length);
        } catch (error) {
          assert.ok(error instanceof ProtocolError, String(error));
        }
      },
    ),
    { numRuns: 2000 },
  );
});

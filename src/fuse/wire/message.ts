/**
 * Whole messages in both directions, as plain objects: for the synthetic kernel of the tests, and
 * for traces. The session itself reads fields in place (dispatch.ts) and never makes these.
 */
import { EXTENSION_GROUPS, EXTENSION_SECURITY_CONTEXTS_MAXIMUM, Opcode } from '../constants.ts';
import { ProtocolError } from './buffer.ts';
import { outHeader, replyShapes } from './replies.ts';
import { inHeader, requestShapes, setxattrIn } from './requests.ts';
import type { WireBuffer } from './buffer.ts';
import type { RequestShape } from './requests.ts';
import type { Struct } from './struct.ts';

export interface RequestHeader {
  readonly opcode: number;
  readonly unique: number;
  readonly resent: boolean;
  readonly nodeId: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

export interface RequestMessage extends RequestHeader {
  /** Fields of the request's struct; empty without one. */
  readonly body: Readonly<Record<string, number>>;
  readonly names: readonly Uint8Array[];
  readonly data: Uint8Array;
  readonly extensions: readonly Extension[];
}

/** What may follow CREATE, MKDIR, MKNOD, SYMLINK and TMPFILE (7.38; total_extlen of the header). */
export type Extension =
  | { readonly kind: 'groups'; readonly groups: readonly number[] }
  | { readonly kind: 'security'; readonly contexts: readonly SecurityContext[] };

export interface SecurityContext {
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

export interface ReplyMessage {
  readonly unique: number;
  readonly resent: boolean;
  /** Positive errno, or 0. In a notification (unique 0): minus the code. */
  readonly errno: number;
  readonly bodies: readonly Readonly<Record<string, number>>[];
  readonly data: Uint8Array;
}

const twoTo32 = 4_294_967_296;
const resendBit = 0x8000_0000;
const headerBytes = inHeader.sizeBytes;
const outHeaderBytes = outHeader.sizeBytes;

function align8(bytes: number): number {
  return (bytes + 7) & ~7;
}

function shapeOf(opcode: number, setxattrExtended: boolean): RequestShape {
  const shape = requestShapes.get(opcode);
  if (shape === undefined) throw new ProtocolError(`opcode ${opcode} is not known`);
  if (opcode === Opcode.SETXATTR && setxattrExtended) return { ...shape, body: setxattrIn };
  return shape;
}

/** Writes a request at the start of `buffer`, as the kernel would. Returns its length in bytes. */
export function encodeRequest(
  buffer: WireBuffer,
  message: Partial<RequestMessage> & { readonly opcode: number },
  setxattrExtended = false,
): number {
  const shape = shapeOf(message.opcode, setxattrExtended);
  let at = headerBytes;
  if (shape.body !== undefined) {
    shape.body.encode(buffer, at, message.body ?? {});
    at += shape.body.sizeBytes;
  }
  for (const name of message.names ?? []) {
    buffer.bytes.set(name, at);
    buffer.bytes[at + name.length] = 0;
    at += name.length + 1;
  }
  buffer.bytes.set(message.data ?? new Uint8Array(0), at);
  at += message.data?.length ?? 0;
  let extensionBytes = 0;
  if (message.extensions !== undefined && message.extensions.length > 0) {
    const start = align8(at);
    buffer.bytes.fill(0, at, start);
    at = start;
    for (const extension of message.extensions) at = encodeExtension(buffer, at, extension);
    extensionBytes = at - start;
  }
  const unique = message.unique ?? 0;
  inHeader.encode(buffer, 0, {
    len: at,
    opcode: message.opcode,
    uniqueLow: unique >>> 0,
    uniqueHigh: Math.floor(unique / twoTo32) + (message.resent === true ? resendBit : 0),
    nodeid: message.nodeId ?? 0,
    uid: message.uid ?? 0,
    gid: message.gid ?? 0,
    pid: message.pid ?? 0,
    total_extlen: extensionBytes / 8,
  });
  return at;
}

/** Reads a request of `lengthBytes`. Throws `ProtocolError` on what the kernel would not send. */
export function decodeRequest(
  buffer: WireBuffer,
  lengthBytes: number,
  setxattrExtended = false,
): RequestMessage {
  if (lengthBytes < headerBytes || buffer.u32(0) !== lengthBytes) {
    throw new ProtocolError('the length of the request is wrong');
  }
  const header = inHeader.decode(buffer, 0);
  const shape = shapeOf(header.opcode, setxattrExtended);
  const end = lengthBytes - header.total_extlen * 8;
  let at = headerBytes + (shape.body?.sizeBytes ?? 0);
  if (at > end) throw new ProtocolError('the request is too short');
  const body = shape.body?.decode(buffer, headerBytes) ?? {};
  const names: Uint8Array[] = [];
  while (names.length < shape.names) {
    const nameEnd = buffer.bytes.indexOf(0, at);
    if (nameEnd < 0 || nameEnd >= end) throw new ProtocolError('a name does not end');
    names.push(buffer.bytes.slice(at, nameEnd));
    at = nameEnd + 1;
  }
  return {
    opcode: header.opcode,
    unique: (header.uniqueHigh % resendBit) * twoTo32 + header.uniqueLow,
    resent: header.uniqueHigh >= resendBit,
    nodeId: header.nodeid,
    uid: header.uid,
    gid: header.gid,
    pid: header.pid,
    body,
    names,
    data: shape.hasData ? buffer.bytes.slice(at, end) : new Uint8Array(0),
    extensions: decodeExtensions(buffer, end, lengthBytes),
  };
}

/**
 * struct fuse_ext_header {u32 size, u32 type} and what follows, padded to 8 bytes. Returns where it
 * ends.
 */
function encodeExtension(buffer: WireBuffer, startBytes: number, extension: Extension): number {
  let at = startBytes + 8;
  if (extension.kind === 'groups') {
    buffer.setU32(at, extension.groups.length);
    at += 4;
    for (const group of extension.groups) {
      buffer.setU32(at, group);
      at += 4;
    }
    at = zeroPad(buffer, at);
  } else {
    for (const { name, value } of extension.contexts) {
      buffer.setU32(at, value.length);
      buffer.setU32(at + 4, 0);
      buffer.bytes.set(name, at + 8);
      buffer.bytes[at + 8 + name.length] = 0;
      buffer.bytes.set(value, at + 9 + name.length);
      at = zeroPad(buffer, at + 9 + name.length + value.length);
    }
  }
  buffer.setU32(startBytes, at - startBytes);
  const type = extension.kind === 'groups' ? EXTENSION_GROUPS : extension.contexts.length;
  buffer.setU32(startBytes + 4, type);
  return at;
}

function zeroPad(buffer: WireBuffer, atBytes: number): number {
  const end = align8(atBytes);
  buffer.bytes.fill(0, atBytes, end);
  return end;
}

function decodeExtensions(buffer: WireBuffer, startBytes: number, endBytes: number): Extension[] {
  const extensions: Extension[] = [];
  for (let at = startBytes; at < endBytes;) {
    if (at % 8 !== 0) throw new ProtocolError('extensions start at a multiple of 8');
    const sizeBytes = at + 8 <= endBytes ? buffer.u32(at) : 0;
    if (sizeBytes < 8 || at + sizeBytes > endBytes) throw new ProtocolError('a broken extension');
    const type = buffer.u32(at + 4);
    if (type <= EXTENSION_SECURITY_CONTEXTS_MAXIMUM) {
      const contexts = decodeContexts(buffer, at + 8, at + sizeBytes, type);
      extensions.push({ kind: 'security', contexts });
    } else if (type === EXTENSION_GROUPS) {
      extensions.push({ kind: 'groups', groups: decodeGroups(buffer, at + 8, at + sizeBytes) });
    }
    at += align8(sizeBytes);
  }
  return extensions;
}

/** struct fuse_supp_groups: u32 nr_groups, u32 groups[]. */
function decodeGroups(buffer: WireBuffer, atBytes: number, endBytes: number): number[] {
  const count = atBytes + 4 <= endBytes ? buffer.u32(atBytes) : 0;
  if (atBytes + 4 + count * 4 > endBytes) throw new ProtocolError('a broken group list');
  return Array.from({ length: count }, (_, index) => buffer.u32(atBytes + 4 + index * 4));
}

/**
 * struct fuse_secctx {u32 size, u32 padding}, the name with its NUL, the context; each padded to 8
 * bytes.
 */
function decodeContexts(
  buffer: WireBuffer,
  startBytes: number,
  endBytes: number,
  count: number,
): SecurityContext[] {
  const contexts: SecurityContext[] = [];
  let at = startBytes;
  while (contexts.length < count) {
    if (at + 8 > endBytes) throw new ProtocolError('a broken security context');
    const sizeBytes = buffer.u32(at);
    const nameEnd = buffer.bytes.indexOf(0, at + 8);
    const valueEnd = nameEnd + 1 + sizeBytes;
    if (nameEnd < 0 || valueEnd > endBytes) throw new ProtocolError('a broken security context');
    const name = buffer.bytes.slice(at + 8, nameEnd);
    contexts.push({ name, value: buffer.bytes.slice(nameEnd + 1, valueEnd) });
    at = align8(valueEnd);
  }
  return contexts;
}

/** Writes an answer to `opcode` at the start of `buffer`. Returns its length in bytes. */
export function encodeReply(
  buffer: WireBuffer,
  opcode: number,
  message: Partial<ReplyMessage> & { readonly unique: number },
): number {
  let at = outHeaderBytes;
  const errno = message.errno ?? 0;
  const structs: readonly Struct[] = errno === 0 ? (replyShapes.get(opcode)?.structs ?? []) : [];
  structs.forEach((struct, index) => {
    struct.encode(buffer, at, message.bodies?.[index] ?? {});
    at += struct.sizeBytes;
  });
  buffer.bytes.set(message.data ?? new Uint8Array(0), at);
  at += message.data?.length ?? 0;
  outHeader.encode(buffer, 0, {
    len: at,
    error: -errno,
    uniqueLow: message.unique >>> 0,
    uniqueHigh: Math.floor(message.unique / twoTo32) + (message.resent === true ? resendBit : 0),
  });
  return at;
}

/**
 * Reads an answer to `opcode`. Throws `ProtocolError` where the kernel would refuse it with EINVAL.
 */
export function decodeReply(buffer: WireBuffer, lengthBytes: number, opcode: number): ReplyMessage {
  if (lengthBytes < outHeaderBytes || buffer.u32(0) !== lengthBytes) {
    throw new ProtocolError('the length of the answer is wrong');
  }
  const header = outHeader.decode(buffer, 0);
  const shape = replyShapes.get(opcode);
  if (shape === undefined && header.error === 0) {
    throw new ProtocolError(`opcode ${opcode} has no answer`);
  }
  if (header.error > 0 || header.error <= -512) throw new ProtocolError('an errno out of range');
  if (header.error < 0 && lengthBytes !== outHeaderBytes) {
    throw new ProtocolError('an error has no body');
  }
  let at = outHeaderBytes;
  const bodies: Record<string, number>[] = [];
  for (const struct of header.error === 0 ? (shape?.structs ?? []) : []) {
    if (at + struct.sizeBytes > lengthBytes) throw new ProtocolError('the answer is too short');
    bodies.push(struct.decode(buffer, at));
    at += struct.sizeBytes;
  }
  if (at !== lengthBytes && shape?.hasData !== true) {
    throw new ProtocolError('the answer is too long');
  }
  return {
    unique: (header.uniqueHigh % resendBit) * twoTo32 + header.uniqueLow,
    resent: header.uniqueHigh >= resendBit,
    errno: -header.error + 0,
    bodies,
    data: buffer.bytes.slice(at, lengthBytes),
  };
}

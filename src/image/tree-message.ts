/**
 * A whole tree from server to broker, for a native mount: pieces of JSON, nodes in the order of their numbers, a
 * directory before what is in it. What comes out of `decodeNodes` has the right types and nothing more: `checkTree`
 * decides about the rest.
 */
import { ebbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { treeNodesMax } from './erofs/plain-node.ts';
import type {
  PlainContent,
  PlainEntry,
  PlainExtent,
  PlainNode,
  PlainXattr,
} from './erofs/plain-node.ts';

/** Names and contents are bytes: one character each. */
const encoding = 'latin1';

type Triple = readonly [fileOffsetBytes: number, imageOffsetBytes: number, lengthBytes: number];

/** One node in a piece. */
interface NodeMessage {
  /** Permissions, uid, gid, seconds, nanoseconds. */
  readonly a: readonly number[];
  readonly x?: readonly (readonly [name: string, value: string])[];
  readonly k: PlainContent['kind'];
  /** Size of a file; major and minor number. */
  readonly n?: readonly number[];
  readonly e?: readonly Triple[];
  /** Inline content, target of a symlink. */
  readonly b?: string;
  /** Entries of a directory. */
  readonly d?: readonly (readonly [name: string, node: number])[];
}

export interface TreePiece {
  readonly nodes: readonly NodeMessage[];
  readonly isLast: boolean;
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString(encoding);
}

function contentMessage(content: PlainContent): Omit<NodeMessage, 'a' | 'k' | 'x'> {
  switch (content.kind) {
    case 'file':
      return {
        n: [content.sizeBytes],
        e: content.extents.map((each): Triple => [
          each.fileOffsetBytes,
          each.imageOffsetBytes,
          each.lengthBytes,
        ]),
      };
    case 'inline':
      return { b: text(content.bytes) };
    case 'symlink':
      return { b: text(content.target) };
    case 'directory':
      return { d: content.entries.map(({ name, node }) => [text(name), node]) };
    case 'character':
    case 'block':
      return { n: [content.major, content.minor] };
    default:
      return {};
  }
}

export function encodeNode(node: PlainNode): NodeMessage {
  const { permissions, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs, content } = node;
  return {
    a: [permissions, uid, gid, mtimeSeconds, mtimeNanoseconds],
    ...(xattrs.length === 0
      ? {}
      : { x: xattrs.map(({ name, value }) => [text(name), text(value)]) }),
    k: content.kind,
    ...contentMessage(content),
  };
}

function nonsense(): EbbError {
  return ebbError('EPROTO', 'The server of the image sends nonsense.');
}

type Fields = Readonly<Record<string, unknown>>;

function list(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw nonsense();
  return value;
}

function numberAt(values: readonly unknown[], index: number): number {
  const value = values[index];
  if (typeof value !== 'number') throw nonsense();
  return value;
}

function bytesOf(value: unknown): Uint8Array {
  if (typeof value !== 'string') throw nonsense();
  return Buffer.from(value, encoding);
}

function xattrOf(value: unknown): PlainXattr {
  const pair = list(value);
  return { name: bytesOf(pair[0]), value: bytesOf(pair[1]) };
}

function entryOf(value: unknown): PlainEntry {
  const pair = list(value);
  return { name: bytesOf(pair[0]), node: numberAt(pair, 1) };
}

function extentOf(value: unknown): PlainExtent {
  const triple = list(value);
  return {
    fileOffsetBytes: numberAt(triple, 0),
    imageOffsetBytes: numberAt(triple, 1),
    lengthBytes: numberAt(triple, 2),
  };
}

function contentOf(said: Fields): PlainContent {
  const kind = said['k'];
  switch (kind) {
    case 'file':
      return {
        kind,
        sizeBytes: numberAt(list(said['n']), 0),
        extents: list(said['e']).map(extentOf),
      };
    case 'inline':
      return { kind, bytes: bytesOf(said['b']) };
    case 'symlink':
      return { kind, target: bytesOf(said['b']) };
    case 'directory':
      return { kind, entries: list(said['d']).map(entryOf) };
    case 'character':
    case 'block': {
      const numbers = list(said['n']);
      return { kind, major: numberAt(numbers, 0), minor: numberAt(numbers, 1) };
    }
    case 'fifo':
    case 'socket':
      return { kind };
    default:
      throw nonsense();
  }
}

function nodeOf(value: unknown): PlainNode {
  if (typeof value !== 'object' || value === null) throw nonsense();
  const said = value as Fields;
  const facts = list(said['a']);
  return {
    permissions: numberAt(facts, 0),
    uid: numberAt(facts, 1),
    gid: numberAt(facts, 2),
    mtimeSeconds: numberAt(facts, 3),
    mtimeNanoseconds: numberAt(facts, 4),
    xattrs: said['x'] === undefined ? [] : list(said['x']).map(xattrOf),
    content: contentOf(said),
  };
}

/** Appends what a piece says to `nodes`; true: it was the last. Throws EPROTO for anything that is no piece. */
export function decodeNodes(piece: object, nodes: PlainNode[]): boolean {
  const said = piece as Fields;
  for (const each of list(said['nodes'])) {
    if (nodes.length >= treeNodesMax) throw nonsense();
    nodes.push(nodeOf(each));
  }
  return said['isLast'] === true;
}

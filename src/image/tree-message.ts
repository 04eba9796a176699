/**
 * A whole tree from server to broker, for a native mount: pieces of JSON, nodes in the order of their numbers, a
 * directory before what is in it. A node with very many extents or entries goes on in messages of its own. What comes
 * out of a `TreeDecoder` has the right types and nothing more: `checkTree` decides about the rest.
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

/** More extents or entries of the node before it. */
type MoreMessage = Pick<NodeMessage, 'e' | 'd'> & { readonly more: true };

export interface TreePiece {
  readonly nodes: readonly (NodeMessage | MoreMessage)[];
  readonly isLast: boolean;
}

/** A piece that has this much is sent. */
const pieceBytes = 1024 * 1024;
/** Extents or entries of one message: with the longest names far less than a frame may have. */
const partMax = 4096;
/** Entries, extents and attributes of all: in a few bytes of a message they are hundreds of bytes of memory each. */
const treeItemsMax = 8 * 1024 * 1024;
/** What one node is besides: numbers and punctuation. */
const nodeBytes = 200;
const extentBytes = 60;
const entryBytes = 20;

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString(encoding);
}

function tripleOf(extent: PlainExtent): Triple {
  return [extent.fileOffsetBytes, extent.imageOffsetBytes, extent.lengthBytes];
}

function pairOf({ name, node }: PlainEntry): readonly [name: string, node: number] {
  return [text(name), node];
}

function contentMessage(content: PlainContent): Omit<NodeMessage, 'a' | 'k' | 'x'> {
  switch (content.kind) {
    case 'file':
      return {
        n: [content.sizeBytes],
        e: content.extents.slice(0, partMax).map(tripleOf),
      };
    case 'inline':
      return { b: text(content.bytes) };
    case 'symlink':
      return { b: text(content.target) };
    case 'directory':
      return { d: content.entries.slice(0, partMax).map(pairOf) };
    case 'character':
    case 'block':
      return { n: [content.major, content.minor] };
    default:
      return {};
  }
}

function nodeMessage(node: PlainNode): NodeMessage {
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

function* messagesOf(node: PlainNode): Generator<NodeMessage | MoreMessage> {
  yield nodeMessage(node);
  const { content } = node;
  if (content.kind === 'file') {
    for (let at = partMax; at < content.extents.length; at += partMax) {
      yield { more: true, e: content.extents.slice(at, at + partMax).map(tripleOf) };
    }
  } else if (content.kind === 'directory') {
    for (let at = partMax; at < content.entries.length; at += partMax) {
      yield { more: true, d: content.entries.slice(at, at + partMax).map(pairOf) };
    }
  }
}

/** About how long a message is. */
function messageBytes(message: NodeMessage | MoreMessage): number {
  let bytes = nodeBytes + extentBytes * (message.e?.length ?? 0);
  for (const [name] of message.d ?? []) bytes += entryBytes + 2 * name.length;
  if ('more' in message) return bytes;
  for (const [name, value] of message.x ?? []) bytes += 2 * (name.length + value.length);
  return bytes + 2 * (message.b?.length ?? 0);
}

/** The tree in pieces, each of which fits into a frame. */
export function* treePieces(tree: Iterable<PlainNode>): Generator<TreePiece> {
  let nodes: (NodeMessage | MoreMessage)[] = [];
  let sizeBytes = 0;
  for (const node of tree) {
    for (const message of messagesOf(node)) {
      nodes.push(message);
      sizeBytes += messageBytes(message);
      if (sizeBytes < pieceBytes) continue;
      yield { nodes, isLast: false };
      nodes = [];
      sizeBytes = 0;
    }
  }
  yield { nodes, isLast: true };
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

function nodeOf(said: Fields): PlainNode {
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

/** The tree as it comes. */
export class TreeDecoder {
  readonly nodes: PlainNode[] = [];
  #items = 0;

  /** Takes a piece; true: it was the last. Throws EPROTO for anything that is no piece, EFBIG above `treeItemsMax`. */
  take(piece: object): boolean {
    const said = piece as Fields;
    for (const each of list(said['nodes'])) {
      if (typeof each !== 'object' || each === null) throw nonsense();
      const message = each as Fields;
      this.#count(message);
      if (message['more'] === true) addMore(this.nodes, message);
      else if (this.nodes.length >= treeNodesMax) throw nonsense();
      else this.nodes.push(nodeOf(message));
    }
    return said['isLast'] === true;
  }

  #count(message: Fields): void {
    for (const field of ['d', 'e', 'x']) {
      const items = message[field];
      if (Array.isArray(items)) this.#items += items.length;
    }
    if (this.#items > treeItemsMax) throw treeTooLarge();
  }
}

export function treeTooLarge(): EbbError {
  return ebbError('EFBIG', 'The tree is too large for a native mount: mount without -o native.');
}

function addMore(nodes: PlainNode[], message: Fields): void {
  const content = nodes.at(-1)?.content;
  // The arrays are ours: `contentOf` made them.
  if (content?.kind === 'file') {
    for (const each of list(message['e'])) (content.extents as PlainExtent[]).push(extentOf(each));
  } else if (content?.kind === 'directory') {
    for (const each of list(message['d'])) (content.entries as PlainEntry[]).push(entryOf(each));
  } else throw nonsense();
}

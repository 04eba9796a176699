/** LSEEK and extended attributes: answers that need a row and no remote. */
import { Errno } from '../base/errno.ts';
import { decodeName, encodeName } from '../base/name.ts';
import { NodeKind } from '../catalog/catalog.ts';
import type { Node } from '../catalog/catalog.ts';
import type { Call } from '../fuse/filesystem.ts';
import type { NodeView } from './node-view.ts';
import { virtualXattr, xattrPrefix } from './virtual-xattrs.ts';

/** lseek(2). */
const seekData = 3;
const seekHole = 4;

/**
 * SEEK_DATA and SEEK_HOLE: all of a file is data, whatever is local. Programs that skip holes would otherwise
 * copy nothing and call it success.
 */
export function serveLseek(
  call: Call,
  node: Node | undefined,
  offset: number,
  whence: number,
): void {
  if (node === undefined || node.kind !== NodeKind.file) return void call.error(Errno.ESTALE);
  if (whence !== seekData && whence !== seekHole) return void call.error(Errno.EINVAL);
  if (offset < 0 || offset >= node.sizeBytes) return void call.error(Errno.ENXIO);
  call.offset(whence === seekData ? offset : node.sizeBytes);
}

function answerSized(call: Call, value: Uint8Array, sizeBytes: number): void {
  if (sizeBytes === 0) return void call.xattrSize(value.length);
  if (value.length > sizeBytes) return void call.error(Errno.ERANGE);
  call.data(value);
}

/** "user." */
const userPrefix = Uint8Array.of(0x75, 0x73, 0x65, 0x72, 0x2e);

function isUserXattr(name: Uint8Array): boolean {
  return userPrefix.every((byte, index) => name[index] === byte);
}

export function serveXattr(
  call: Call,
  view: NodeView,
  nodeId: number,
  encodedName: Uint8Array,
  sizeBytes: number,
  residentBytes: number | undefined,
): void {
  // No node has others. ls(1) asks for two of them per file until it hears that there is no such thing here.
  if (!isUserXattr(encodedName)) return void call.error(Errno.EOPNOTSUPP);
  const name = decodeName(encodedName);
  const node = view.node(nodeId);
  if (node === undefined) return void call.error(Errno.ESTALE);
  let value: Uint8Array | undefined;
  if (name.startsWith(xattrPrefix)) {
    const content = view.reader.content(nodeId);
    // A version that was replaced has no name any more, but its content knows which it had.
    const names = view.reader.path(nodeId);
    const key = names?.map((part) => decodeName(part)).join('/') ?? content?.key ?? '';
    value = virtualXattr(name, { node, key, content, residentBytes });
  } else {
    value = node.xattrs?.get(name);
  }
  if (value === undefined) return void call.error(Errno.ENODATA);
  answerSized(call, value, sizeBytes);
}

/** Lists the remote's own attributes only; see virtual-xattrs.ts. */
export function serveListxattr(call: Call, node: Node | undefined, sizeBytes: number): void {
  if (node === undefined) return void call.error(Errno.ESTALE);
  const names = [...(node.xattrs?.keys() ?? [])].map((name) => `${name}\0`).join('');
  answerSized(call, encodeName(names), sizeBytes);
}

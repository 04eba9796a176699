/**
 * Ebb's own extended attributes, readable with getfattr -n. They are not listed (listxattr), so that cp -a and
 * rsync -X do not carry one tree's states into copies; CVMFS hides its own for the same reason.
 */
import { encodeName } from '../base/name.ts';
import type { Content, Node } from '../catalog/catalog.ts';
import { NodeKind } from '../catalog/catalog.ts';

export const xattrPrefix = 'user.ebb.';

export interface XattrSubject {
  readonly node: Node;
  readonly key: string;
  readonly content: Content | undefined;
  /** In-memory residency of an open content, ahead of the catalog; undefined when not open. */
  readonly residentBytes: number | undefined;
}

/** The three-letter state of a file as the mount knows it; `-` for what has no content. */
export function stateOf(node: Node, residentBytes: number): 'DUL' | 'PAR' | 'OFL' | '-' {
  if (node.kind !== NodeKind.file) return '-';
  if (node.sizeBytes >= 0 && residentBytes >= node.sizeBytes) return 'DUL';
  return residentBytes > 0 ? 'PAR' : 'OFL';
}

const readers: Readonly<Record<string, (subject: XattrSubject) => string | undefined>> = {
  state: (subject) => stateOf(subject.node, residentBytesOf(subject)),
  size: ({ node }) => (node.kind === NodeKind.file ? String(node.sizeBytes) : undefined),
  resident_bytes: (subject) =>
    subject.node.kind === NodeKind.file ? String(residentBytesOf(subject)) : undefined,
  version: ({ node }) => node.version ?? undefined,
  key: ({ key }) => key,
  pinned: ({ content, node }) =>
    node.kind === NodeKind.file ? (content?.pinned === true ? '1' : '0') : undefined,
};

function residentBytesOf(subject: XattrSubject): number {
  return subject.residentBytes ?? subject.content?.residentBytes ?? 0;
}

/** The value of `user.ebb.<name>`, or undefined where there is none (ENODATA). */
export function virtualXattr(name: string, subject: XattrSubject): Uint8Array | undefined {
  const value = readers[name.slice(xattrPrefix.length)]?.(subject);
  return value === undefined ? undefined : encodeName(value);
}

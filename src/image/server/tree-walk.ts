/**
 * The whole tree as plain nodes, for a native mount. Breadth first, so that a directory comes before what is in it; a
 * file with several names is one node. What a map cannot say is an error: the plain mount shows such an image.
 */
import { ebbError } from '../../base/errors.ts';
import type { DirectoryEntry, Inode } from '../../ext4/volume.ts';
import {
  fileExtentsMax,
  inlineContentMaxBytes,
  treeNodesMax,
  xattrsFit,
} from '../erofs/plain-node.ts';
import type { PlainContent, PlainEntry, PlainNode, PlainXattr } from '../erofs/plain-node.ts';
import { runsOf } from './extent-list.ts';
import type { OpenImage } from './open.ts';
import { isShownXattr } from './shown-xattrs.ts';

const plainMountText = 'Mount it without -o native.';
const prefetchEntries = 256;
/** Each run may have a hole before it. */
const fileBounds = { runsMax: fileExtentsMax, lookedAtMax: 2 * fileExtentsMax + 1 };

class TreeWalk {
  readonly #image: OpenImage;
  readonly #startBytes: number;
  /** Numbers of inodes, in the order of the nodes' numbers: a million inodes would be most of our memory. */
  readonly #inodes: number[] = [];
  /** Of files with several names. */
  readonly #linked = new Map<number, number>();

  constructor(image: OpenImage, startBytes: number) {
    this.#image = image;
    this.#startBytes = startBytes;
  }

  *nodes(): Generator<PlainNode> {
    const { volume } = this.#image;
    this.#inodes.push(volume.root().number);
    for (let index = 0; index < this.#inodes.length; index += 1) {
      yield this.#node(volume.inode(this.#inodes[index] ?? 0));
    }
  }

  #node(inode: Inode): PlainNode {
    return {
      permissions: inode.mode & 0o7777,
      uid: inode.uid,
      gid: inode.gid,
      mtimeSeconds: inode.modificationTime.seconds,
      mtimeNanoseconds: inode.modificationTime.nanoseconds,
      xattrs: this.#xattrs(inode),
      content: this.#content(inode),
    };
  }

  #xattrs(inode: Inode): PlainXattr[] {
    const xattrs = this.#image.volume.xattrs(inode).filter(({ name }) => isShownXattr(name));
    if (xattrsFit(xattrs)) return xattrs;
    const why = `The attributes of inode ${inode.number} are too large for a map.`;
    throw ebbError('EOPNOTSUPP', `${why} ${plainMountText}`);
  }

  #content(inode: Inode): PlainContent {
    const { volume } = this.#image;
    switch (inode.type) {
      case 'directory':
        return { kind: 'directory', entries: this.#entries(inode) };
      case 'symlink':
        return { kind: 'symlink', target: volume.symlinkTarget(inode) };
      case 'character':
      case 'block':
        return { kind: inode.type, ...(inode.device ?? { major: 0, minor: 0 }) };
      case 'fifo':
      case 'socket':
        return { kind: inode.type };
      default:
        return this.#file(inode);
    }
  }

  #file(inode: Inode): PlainContent {
    const { sizeBytes, number } = inode;
    const runs = runsOf(this.#image.volume, inode, this.#startBytes, fileBounds);
    if (runs !== undefined) return { kind: 'file', sizeBytes, extents: runs.extents() };
    if (sizeBytes > inlineContentMaxBytes) {
      throw ebbError('EOPNOTSUPP', `Inode ${number} cannot be mapped. ${plainMountText}`);
    }
    const bytes = new Uint8Array(sizeBytes);
    this.#image.volume.read(inode, 0, bytes);
    return { kind: 'inline', bytes };
  }

  #entries(directory: Inode): PlainEntry[] {
    const { volume } = this.#image;
    const entries: PlainEntry[] = [];
    let batch: DirectoryEntry[] = [];
    const take = (): void => {
      volume.prefetchInodes(batch.map((entry) => entry.inodeNumber));
      for (const entry of batch)
        entries.push({ name: entry.name, node: this.#number(directory, entry) });
      batch = [];
    };
    for (const entry of volume.entries(directory, 0)) {
      batch.push(entry);
      if (batch.length === prefetchEntries) take();
    }
    take();
    return entries;
  }

  #number(directory: Inode, entry: DirectoryEntry): number {
    const known = this.#linked.get(entry.inodeNumber);
    if (known !== undefined) return known;
    const inode = this.#image.volume.child(directory, entry);
    const index = this.#inodes.length;
    if (index >= treeNodesMax) {
      throw ebbError('EFBIG', `The image has more than ${treeNodesMax} files. ${plainMountText}`);
    }
    this.#inodes.push(inode.number);
    // Whatever its link count says: two nodes for one inode would be wrong, one for two names is right.
    if (inode.type !== 'directory') this.#linked.set(entry.inodeNumber, index);
    return index;
  }
}

/** Throws EOPNOTSUPP where files are not in one place (qcow2, a journal to replay), and what reading throws. */
export function treeNodes(image: OpenImage): Generator<PlainNode> {
  if (image.startBytes === undefined) {
    const why =
      'The blocks of the image are not simply in the file (qcow2, or a journal to replay).';
    throw ebbError('EOPNOTSUPP', `${why} ${plainMountText}`);
  }
  return new TreeWalk(image, image.startBytes).nodes();
}

/** Walks through a whole image, as a user of the reader would: for comparing, and for damaged images. */
import { EbbError } from '../../../src/base/errors.ts';
import type { DirectoryEntry, Inode, Volume } from '../../../src/ext4/volume.ts';

export interface Visited {
  /** From the root, '/' between names, one character for each byte; '' is the root. */
  readonly path: string;
  readonly inode: Inode;
}

/** Everything below the root, directories before what is in them. Throws what the volume throws. */
export function* walkVolume(volume: Volume): Generator<Visited> {
  const pending: Visited[] = [{ path: '', inode: volume.root() }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    yield next;
    if (next.inode.type !== 'directory') continue;
    for (const entry of volume.entries(next.inode, 0)) {
      const inode = volume.child(next.inode, entry);
      pending.push({ path: `${next.path}/${Buffer.from(entry.name).toString('latin1')}`, inode });
    }
  }
}

/** The inode at a path of `walkVolume`, name by name. */
export function resolvePath(volume: Volume, path: string): Inode {
  let inode = volume.root();
  for (const name of path.split('/').slice(1)) {
    const entry = volume.lookup(inode, Buffer.from(name, 'latin1'));
    if (entry === undefined) throw new Error(`${path}: ${name} is not found`);
    inode = volume.child(inode, entry);
  }
  return inode;
}

/** Content of a regular file, read in pieces of odd sizes. */
export function contentOf(volume: Volume, inode: Inode, pieceBytes = 1_000_003): Buffer {
  const content = Buffer.alloc(inode.sizeBytes, 0xee);
  for (let at = 0; at < content.length;) {
    const count = volume.read(inode, at, content.subarray(at, at + pieceBytes));
    if (count === 0) throw new Error(`the file ended at ${at} of ${content.length} bytes`);
    at += count;
  }
  return content;
}

export interface SurveyLimits {
  readonly entriesMax: number;
  /** Of content, attributes and extents together. */
  readonly readMaxBytes: number;
}

export interface Survey {
  entries: number;
  readBytes: number;
  extents: number;
  /** How often each errno was the answer. */
  readonly errors: Map<string, number>;
}

/**
 * Asks a volume, however damaged, everything there is to ask, within limits: lists, looks up, reads.
 * An EbbError is an answer and is counted; anything else is a mistake of the reader and is thrown.
 */
export function surveyVolume(open: () => Volume, limits: SurveyLimits): Survey {
  const survey: Survey = { entries: 0, readBytes: 0, extents: 0, errors: new Map() };
  const ask = <Answer>(question: () => Answer): Answer | undefined => {
    try {
      return question();
    } catch (error) {
      if (!(error instanceof EbbError)) throw error;
      survey.errors.set(error.code, (survey.errors.get(error.code) ?? 0) + 1);
      return undefined;
    }
  };
  const volume = ask(open);
  if (volume === undefined) return survey;
  ask(() => volume.statfs());
  ask(() => volume.attributedInodes());
  ask(() => volume.fileSizes(1));
  const root = ask(() => volume.root());
  const buffer = new Uint8Array(65_536);
  const pending = root === undefined ? [] : [root];
  const hasRoom = (): boolean =>
    survey.entries < limits.entriesMax && survey.readBytes < limits.readMaxBytes;

  const examine = (inode: Inode): void => {
    for (const attribute of ask(() => volume.xattrs(inode)) ?? []) {
      survey.readBytes += ask(() => attribute.value)?.length ?? 0;
    }
    if (inode.type === 'symlink') ask(() => volume.symlinkTarget(inode));
    ask(() => {
      for (const { blockCount } of volume.extents(inode, { pastEnd: true })) {
        survey.extents += 1;
        survey.readBytes += 64;
        if (blockCount < 1) throw new Error('an empty extent');
        if (!hasRoom()) break;
      }
    });
    if (inode.type !== 'file') return;
    for (const offset of [0, Math.floor(inode.sizeBytes / 2), inode.sizeBytes - 10]) {
      if (offset < 0 || !hasRoom()) continue;
      survey.readBytes += ask(() => volume.read(inode, offset, buffer)) ?? 0;
    }
  };

  for (let inode = pending.pop(); inode !== undefined && hasRoom(); inode = pending.pop()) {
    examine(inode);
    if (inode.type !== 'directory') continue;
    const directory = inode;
    ask(() => volume.parent(directory));
    const entries: DirectoryEntry[] = [];
    ask(() => {
      for (const entry of volume.entries(directory, 0)) {
        survey.entries += 1;
        if (!hasRoom()) break;
        entries.push(entry);
      }
    });
    for (const entry of entries) {
      ask(() => volume.lookup(directory, entry.name));
      const child = ask(() => volume.child(directory, entry));
      if (child !== undefined) pending.push(child);
    }
    ask(() => volume.lookup(directory, Buffer.from('no such name')));
  }
  return survey;
}

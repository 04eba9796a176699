/**
 * Does what `ebb image` asks of an image: says what it is, lists, gives content, copies out, checks. Reads through a
 * synchronous device, wherever that gets its bytes.
 */
import path from 'node:path';
import { statSync } from 'node:fs';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { decodeName, encodeName } from '../../base/name.ts';
import type { BlockDevice } from '../../ext4/block-device.ts';
import { openReplayed } from '../../ext4/journal/replay.ts';
import type { ReplayedVolume } from '../../ext4/journal/replay.ts';
import type { Inode, Volume } from '../../ext4/volume.ts';
import { openFd, OpenFlag } from '../../sys/fd.ts';
import { choosePlace, openDisk, openPlace } from '../container/open-image.ts';
import type { Disk, Place } from '../container/open-image.ts';
import { Check } from './check.ts';
import { CopyOut } from './copy-out.ts';
import type { ImageDone, ImageEntry, ImageInfo, ImageRequest, ReaderOutput } from './lines.ts';
import { inodeAt } from './path.ts';

const pieceBytes = 1024 * 1024;
const listDepthMax = 5000;
/** Entries of a directory that are sorted together. */
const sortedMax = 100_000;

const nothingDone: ImageDone = {
  exitCode: 0,
  files: 0,
  directories: 0,
  bytes: 0,
  attributesLost: 0,
};

/** Never throws: what ends it is an error line. Returns the exit code; `done` is the last line. */
export function runImageRequest(
  image: BlockDevice,
  request: ImageRequest,
  output: ReaderOutput,
): number {
  let done: ImageDone;
  try {
    done = { ...nothingDone, ...perform(image, request, output) };
  } catch (error) {
    const { code, message } = toEbbError(error);
    output.line({ error: { path: '', code, message, refused: false } });
    done = { ...nothingDone, exitCode: 1 };
  }
  output.line({ done });
  return done.exitCode;
}

function perform(
  image: BlockDevice,
  request: ImageRequest,
  output: ReaderOutput,
): Partial<ImageDone> {
  const { action } = request;
  if (action === 'info') {
    const info = infoOf(image, request);
    output.line({ info });
    return { exitCode: info.problem === null ? 0 : 1 };
  }
  const disk = openDisk(image);
  const { volume } = openVolumeAt(disk, choosePlace(disk, request.selection), request);
  if (action === 'check') return check(disk, volume, output);
  if (action === 'cp') return copy(volume, request, output);
  let failed = 0;
  for (const each of request.paths) {
    try {
      if (action === 'ls') failed += list(volume, each, request.recursive === true, output);
      else giveContent(volume, each, output);
    } catch (error) {
      const { code, message } = toEbbError(error);
      failed += 1;
      output.line({
        error: { path: each, code, message: withoutPath(message, each), refused: false },
      });
    }
  }
  return { exitCode: failed === 0 ? 0 : 1 };
}

function openVolumeAt(disk: Disk, place: Place, { journal }: ImageRequest): ReplayedVolume {
  return openReplayed(openPlace(disk, place), { journal });
}

function infoOf(image: BlockDevice, request: ImageRequest): ImageInfo {
  const disk = openDisk(image);
  const base = {
    sizeBytes: image.sizeBytes,
    container: disk.container,
    diskSizeBytes: disk.device.sizeBytes,
    table: disk.table ?? null,
  };
  let place: ImageInfo['place'] = null;
  try {
    const chosen = choosePlace(disk, request.selection);
    const { offsetBytes, sizeBytes, partition } = chosen;
    place = { offsetBytes, sizeBytes, partition: partition?.number ?? null };
    const { volume, replay } = openVolumeAt(disk, chosen, request);
    const { features, backup, ...facts } = volume.superblock;
    const { freeBlocks, freeInodes } = volume.statfs();
    const filesystem = {
      ...facts,
      features: [...features].sort(),
      backup: backup ?? null,
      freeBlocks,
      freeInodes,
      replay,
    };
    return { ...base, place, filesystem, problem: null };
  } catch (error) {
    return { ...base, place, filesystem: null, problem: toEbbError(error).message };
  }
}

/** The number of failures, which are said. */
function list(volume: Volume, typed: string, recursive: boolean, output: ReaderOutput): number {
  const inode = inodeAt(volume, typed, true);
  if (inode.type !== 'directory') {
    output.line({ entry: entryOf(volume, inodeAt(volume, typed, false), typed) });
    return 0;
  }
  let failed = 0;
  const pending = [{ directory: inode, prefix: '', depth: 0 }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { directory, prefix, depth } = next;
    const below: typeof pending = [];
    for (const entries of batches(volume.entries(directory, 0), sortedMax)) {
      volume.prefetchInodes(entries.map((entry) => entry.inodeNumber));
      const named = entries.map((entry) => ({ entry, name: decodeName(entry.name) }));
      named.sort((a, b) => (a.name < b.name ? -1 : 1));
      for (const { entry, name } of named) {
        const shown = `${prefix}${name}`;
        try {
          const child = volume.child(directory, entry);
          output.line({ entry: entryOf(volume, child, shown) });
          if (recursive && child.type === 'directory' && depth < listDepthMax) {
            below.push({ directory: child, prefix: `${shown}/`, depth: depth + 1 });
          }
        } catch (error) {
          const { code, message } = toEbbError(error);
          failed += 1;
          output.line({ error: { path: shown, code, message, refused: false } });
        }
      }
    }
    pending.push(...below.reverse());
  }
  return failed;
}

function entryOf(volume: Volume, inode: Inode, shown: string): ImageEntry {
  const { number, type, mode, linkCount, uid, gid, sizeBytes, modificationTime, device } = inode;
  const target = type === 'symlink' && !inode.encrypted ? volume.symlinkTarget(inode) : undefined;
  return {
    path: shown,
    type,
    inode: number,
    mode,
    links: linkCount,
    uid,
    gid,
    sizeBytes,
    mtime: modificationTime,
    ...(target === undefined ? {} : { target: decodeName(target) }),
    ...(device === undefined ? {} : { device }),
  };
}

function giveContent(volume: Volume, typed: string, output: ReaderOutput): void {
  const inode = inodeAt(volume, typed, true);
  const piece = new Uint8Array(Math.min(pieceBytes, Math.max(inode.sizeBytes, 1)));
  for (let at = 0; ;) {
    const count = volume.read(inode, at, piece);
    if (count === 0) return;
    output.data(piece.subarray(0, count));
    at += count;
  }
}

function check(disk: Disk, volume: Volume, output: ReaderOutput): Partial<ImageDone> {
  const warnings = disk.table?.warnings ?? [];
  for (const message of warnings) {
    output.line({ error: { path: '', code: 'EUCLEAN', message, refused: false } });
  }
  const checked = new Check(volume, output);
  checked.run();
  const { files, directories, bytes, problems } = checked;
  return { exitCode: problems + warnings.length === 0 ? 0 : 1, files, directories, bytes };
}

function copy(volume: Volume, request: ImageRequest, output: ReaderOutput): Partial<ImageDone> {
  const { destination = '', paths, force = false } = request;
  const into = isDirectory(destination);
  if (!into && paths.length > 1) {
    throw ebbError(
      'ENOTDIR',
      `Several files need a directory to go to, which ${destination} is not.`,
    );
  }
  const parent = into ? destination : path.dirname(destination);
  using root = openFd(parent, OpenFlag.rdonly | OpenFlag.directory);
  const out = new CopyOut(volume, root.fd, output, { force });
  for (const each of paths) {
    try {
      const plain = path.posix.normalize(`/${each}`);
      const inode = inodeAt(volume, plain, false);
      const name = into ? path.posix.basename(plain) : path.basename(destination);
      if (name === '') out.copyEntries(inode);
      else out.copy(inode, name);
    } catch (error) {
      const { code, message } = toEbbError(error);
      out.failed += 1;
      output.line({
        error: { path: each, code, message: withoutPath(message, each), refused: false },
      });
    }
  }
  const { files, directories, bytes, attributesLost, failed, refused } = out;
  const exitCode = failed > 0 ? 1 : refused > 0 ? 3 : 0;
  return { exitCode, files, directories, bytes, attributesLost };
}

/** Follows symlinks: the destination is the user's own. */
function isDirectory(destination: string): boolean {
  return (
    statSync(Buffer.from(encodeName(destination)), { throwIfNoEntry: false })?.isDirectory() ===
    true
  );
}

/** Error lines name the path themselves. */
function withoutPath(message: string, typed: string): string {
  return message.startsWith(`${typed}: `) ? message.slice(typed.length + 2) : message;
}

function* batches<Item>(items: Iterable<Item>, countMax: number): Generator<Item[]> {
  let batch: Item[] = [];
  for (const item of items) {
    batch.push(item);
    if (batch.length < countMax) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

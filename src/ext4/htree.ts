/**
 * The index of large directories: which blocks may hold a name of a certain hash. It is only ever an
 * accelerator; whatever is wrong with it throws EUCLEAN, and the caller reads the whole directory.
 */
import type { CachedBlock } from './block-cache.ts';
import { foldName } from './casefold.ts';
import { directoryBlock, indexOffset } from './directory-block.ts';
import { corrupt } from './errors.ts';
import { hashName } from './hash.ts';
import type { Image } from './image.ts';
import type { LoadedInode } from './loaded-inode.ts';

const levelsMax = 2;
const largeLevelsMax = 3;
const entrySize = 8;
const blockMask = 0x0fffffff;

/** One level of the way down: an index block and the entry that was followed. */
interface Step {
  readonly block: CachedBlock;
  readonly offset: number;
  readonly count: number;
  at: number;
}

/**
 * Logical blocks that may hold `name`, most likely one. Throws EUCLEAN, also later on, when the
 * index cannot be used.
 */
export function* leavesFor(
  image: Image,
  directory: LoadedInode,
  name: Uint8Array,
): Generator<number> {
  const { superblock } = image;
  const root = indexBlock(image, directory, 0);
  const version = root.u8(28);
  const levels = root.u8(30);
  const isLarge = superblock.features.names.has('large_dir');
  if (root.u32(24) !== 0 || root.u8(29) !== 8) throw corrupt('the root of an index is odd');
  if (levels >= (isLarge ? largeLevelsMax : levelsMax)) throw corrupt('an index is too deep');
  const wanted = directory.casefold ? foldName(name) : name;
  const hashes = hashName(wanted, version, superblock.hashSeed, superblock.hashUnsigned);
  if (hashes === undefined) throw corrupt('the hash of an index is unknown');

  const hash = hashes.major;
  const steps: Step[] = [];
  descend(image, directory, steps, step(directory, root, 0), hash, levels);
  for (;;) {
    const leaf = steps.at(-1)!;
    yield target(leaf);
    // Names with this hash go on in the next block when its hash is the same and marked so.
    let up = steps.length - 1;
    while (up >= 0 && steps[up]!.at + 1 >= steps[up]!.count) up -= 1;
    if (up < 0) return;
    const turn = steps[up]!;
    if (hashAt(turn, turn.at + 1) !== hash + 1) return;
    turn.at += 1;
    steps.length = up + 1;
    while (steps.length <= levels) {
      const logical = target(steps.at(-1)!);
      steps.push(step(directory, indexBlock(image, directory, logical), logical));
    }
  }
}

function descend(
  image: Image,
  directory: LoadedInode,
  steps: Step[],
  root: Step,
  hash: number,
  levels: number,
): void {
  const passed = [0];
  for (let current = root, level = 0; ; level += 1) {
    // The last entry whose hash is not larger; the first has none and counts as 0.
    let low = 1;
    let high = current.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (hashAt(current, middle) > hash) high = middle;
      else low = middle + 1;
    }
    current.at = low - 1;
    steps.push(current);
    const logical = target(current);
    // Names would be looked for where none are (dx_probe).
    if (passed.includes(logical)) throw corrupt(`an index leads back to block ${logical}`);
    if (level === levels) return;
    passed.push(logical);
    current = step(directory, indexBlock(image, directory, logical), logical);
  }
}

function indexBlock(image: Image, directory: LoadedInode, logicalBlock: number): CachedBlock {
  const { physicalBlock, unwritten } = image.map.run(directory, logicalBlock);
  if (physicalBlock === undefined || unwritten) throw corrupt('an index block is a hole');
  return directoryBlock(image, directory, logicalBlock, physicalBlock);
}

function step(directory: LoadedInode, block: CachedBlock, logicalBlock: number): Step {
  const offset = indexOffset(directory, block, logicalBlock);
  if (offset === undefined) throw corrupt('an index block is none');
  const limit = block.u16(offset);
  const count = block.u16(offset + 2);
  if (count < 1 || count > limit || offset + limit * entrySize > block.sizeBytes) {
    throw corrupt(`an index block has ${count} of ${limit} entries`);
  }
  return { block, offset, count, at: 0 };
}

function hashAt(step: Step, index: number): number {
  return step.block.u32(step.offset + index * entrySize);
}

function target(step: Step): number {
  return step.block.u32(step.offset + step.at * entrySize + 4) & blockMask;
}

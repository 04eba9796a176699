/**
 * What server and broker say to each other over their socket pair. The broker believes nothing: every frame has a
 * largest size, every number is checked where it is used.
 *
 * After the gate (sandbox/inherited.ts) the server sends frames: u32 type, u32 length, payload. Some are answered by
 * one i32: `opened` by a `mountedAnswer`, `map` and `mapAgain` by a backing id or -errno, `ask` by what becomes of it.
 */
import type { ReplayOptions } from '../ext4/journal/replay.ts';

export const FrameType = {
  /** JSON `Opened`: the image could be opened. Answered. */
  opened: 1,
  /** JSON `Failed`: it could not, or serving ended by an error. */
  failed: 2,
  /** A file's place in the image, to become a backing: `encodeMapRequest`. Answered. */
  map: 3,
  /** f64: a backing id that no file has open any more. */
  unmap: 4,
  /** f64: an inode that was mapped by a `map` before. Answered as that, -ENOENT when the broker has forgotten it. */
  mapAgain: 10,
  /** JSON: a piece of the tree for a native mount (tree-message.ts). */
  tree: 5,
  /** The mount is gone: the server has nothing to do any more. */
  ended: 6,
  /** A range of a remote image: f64 offset, f64 length, f64 deadline in ms. Answered, see `RecallSource.ask`. */
  ask: 7,
  /** Ranges that will be asked for soon: f64 offset and f64 length of each. */
  prefetch: 8,
  /** The kernel and the server have agreed on the connection (INIT). */
  serving: 9,
} as const;

/** Anything else: it is not mounted. */
export const mountedAnswer = {
  plain: 0,
  /** The broker can make backings out of `map` requests. */
  mapped: 1,
} as const;

export const frameHeaderBytes = 8;
/** An f64. Of `map`: two, and three for each extent. */
const numberBytes = 8;
const headNumbers = 2;
const numbersPerExtent = 3;
const kibibyte = 1024;
/** Of a piece of a tree. */
export const framePayloadMaxBytes = 32 * kibibyte * kibibyte;
/** Sentences may name all partitions of a disk. As hostile JSON it takes the broker some tens of MiB. */
const wordsMaxBytes = kibibyte * kibibyte;
/** Extents of a file that is mapped; the server names fewer (`runsPerRequestMax`). */
export const mapExtentsMax = 65_536;
/** What the payload of a frame may have. Of a type that does not exist: nothing. */
export function payloadMaxBytes(type: number): number {
  switch (type) {
    case FrameType.opened:
    case FrameType.failed:
      return wordsMaxBytes;
    case FrameType.tree:
      return framePayloadMaxBytes;
    case FrameType.map:
      return (headNumbers + mapExtentsMax * numbersPerExtent) * numberBytes;
    case FrameType.prefetch:
      return prefetchRangesMax * 2 * numberBytes;
    case FrameType.ask:
      return 3 * numberBytes;
    case FrameType.unmap:
    case FrameType.mapAgain:
      return numberBytes;
    default:
      return 0;
  }
}

/** The longest range of one `ask`. */
export const askMaxBytes = 4 * 1024 * 1024;
/** Ranges of one `prefetch`; more are dropped. */
export const prefetchRangesMax = 1024;
/** What the broker says by itself of a recall that has ended: i32 its number, i32 0 or an errno. */
export const noticeBytes = 8;

/** How the server was started: JSON in its first argument. */
export interface ServerRequest {
  readonly imageBytes: number;
  readonly offsetBytes?: number | undefined;
  readonly partition?: number | undefined;
  readonly journal?: ReplayOptions['journal'] | undefined;
  /** `tree`: send the whole tree and serve nothing. `load`: nothing at all, outside of a sandbox (prime.ts). */
  readonly mode: 'serve' | 'tree' | 'load';
  /** The image is remote: what of it is not in the file has to be asked for. */
  readonly recall?: RecallFacts | undefined;
}

export interface RecallFacts {
  readonly chunkBytes: number;
  readonly deadlineMs: number;
  readonly readAheadMaxBytes: number;
}

export interface Opened {
  readonly blockBytes: number;
  /** Where the file system's block 0 is in the image file; undefined: not in one piece (qcow2). */
  readonly startBytes: number | undefined;
  readonly label: string;
  readonly uuid: string;
  readonly notes: readonly string[];
}

export interface Failed {
  readonly code: string;
  readonly message: string;
}

export interface MapRequest {
  /** Names the file towards the broker. */
  readonly inode: number;
  readonly sizeBytes: number;
  readonly extents: readonly {
    readonly fileOffsetBytes: number;
    readonly imageOffsetBytes: number;
    readonly lengthBytes: number;
  }[];
}

/** A `MapRequest` before it is sent. */
export interface FilePlaces {
  readonly inode: number;
  readonly sizeBytes: number;
  /** Offset in the file, offset in the image and length of each extent. */
  readonly runs: Float64Array;
}

/** f64 inode, f64 size, then three f64 for each extent. */
export function encodeMapRequest({ inode, sizeBytes, runs }: FilePlaces): Uint8Array {
  const numbers = new Float64Array(headNumbers + runs.length);
  numbers[0] = inode;
  numbers[1] = sizeBytes;
  numbers.set(runs, headNumbers);
  return new Uint8Array(numbers.buffer);
}

/** The numbers may be anything: `checkExtents` decides. Undefined when the length is wrong. */
export function decodeMapRequest(payload: Uint8Array): MapRequest | undefined {
  const extentBytes = numbersPerExtent * 8;
  const headBytes = headNumbers * 8;
  if (payload.length < headBytes || (payload.length - headBytes) % extentBytes !== 0) {
    return undefined;
  }
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const count = (payload.length - headBytes) / extentBytes;
  return {
    inode: view.getFloat64(0, true),
    sizeBytes: view.getFloat64(8, true),
    extents: Array.from({ length: count }, (_, index) => {
      const at = headBytes + index * extentBytes;
      return {
        fileOffsetBytes: view.getFloat64(at, true),
        imageOffsetBytes: view.getFloat64(at + 8, true),
        lengthBytes: view.getFloat64(at + 16, true),
      };
    }),
  };
}

/** f64 offset, f64 length, f64 deadline. */
export interface AskRequest {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  readonly deadlineMs: number;
}

export function encodeAsk({ offsetBytes, sizeBytes, deadlineMs }: AskRequest): Uint8Array {
  return new Uint8Array(Float64Array.of(offsetBytes, sizeBytes, deadlineMs).buffer);
}

/** Undefined when the length is wrong; the numbers may be anything. */
export function decodeAsk(payload: Uint8Array): AskRequest | undefined {
  const [offsetBytes, sizeBytes, deadlineMs, ...more] = numbersIn(payload);
  if (offsetBytes === undefined || sizeBytes === undefined || deadlineMs === undefined) {
    return undefined;
  }
  return more.length > 0 ? undefined : { offsetBytes, sizeBytes, deadlineMs };
}

interface Range {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** At most `prefetchRangesMax`. */
export function encodePrefetch(ranges: readonly Range[]): Uint8Array {
  const kept = ranges.slice(0, prefetchRangesMax);
  return new Uint8Array(
    Float64Array.from(kept.flatMap(({ offsetBytes, sizeBytes }) => [offsetBytes, sizeBytes]))
      .buffer,
  );
}

/** As many as are allowed; the numbers may be anything. */
export function decodePrefetch(payload: Uint8Array): Range[] {
  const numbers = numbersIn(payload.subarray(0, prefetchRangesMax * 16));
  const ranges: Range[] = [];
  for (let at = 0; at + 1 < numbers.length; at += 2) {
    ranges.push({ offsetBytes: numbers[at] ?? 0, sizeBytes: numbers[at + 1] ?? 0 });
  }
  return ranges;
}

function numbersIn(payload: Uint8Array): number[] {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const count = Math.floor(payload.byteLength / 8);
  return Array.from({ length: count }, (_, index) => view.getFloat64(index * 8, true));
}

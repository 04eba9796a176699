/**
 * Which reading stream a range belongs to. fanotify does not tell the open file, so a stream is known by where it is:
 * a range near the end of an earlier one continues it, the same thread's first. Pure.
 */

/** A range this near to where a stream is belongs to it: out of order, or skipped a little. */
export const streamSlackBytes = 4 * 1024 * 1024;
const filesMax = 1024;
const streamsPerFileMax = 8;

interface Stream {
  readonly id: number;
  tid: number;
  positionBytes: number;
}

export class StreamFinder {
  /** By file id; the least recently used file first, in a file the least recently used stream first. */
  readonly #streams = new Map<number, Stream[]>();
  readonly #onEnd: (streamId: number) => void;
  #nextId = 1;

  /** `onEnd`: a stream is forgotten. */
  constructor(onEnd: (streamId: number) => void) {
    this.#onEnd = onEnd;
  }

  /** The id of the stream that `[offsetBytes, offsetBytes + lengthBytes)` belongs to, maybe a new one. */
  of(fileId: number, tid: number, offsetBytes: number, lengthBytes: number): number {
    const streams = this.#streams.get(fileId) ?? [];
    this.#streams.delete(fileId);
    this.#streams.set(fileId, streams);
    const stream = nearest(streams, tid, offsetBytes) ?? {
      id: this.#nextId++,
      tid,
      positionBytes: 0,
    };
    stream.tid = tid;
    stream.positionBytes = offsetBytes + lengthBytes;
    const index = streams.indexOf(stream);
    if (index >= 0) streams.splice(index, 1);
    streams.push(stream);
    if (streams.length > streamsPerFileMax) this.#end(streams.shift());
    const [oldest] = this.#streams.keys();
    if (this.#streams.size > filesMax && oldest !== undefined) this.forget(oldest);
    return stream.id;
  }

  /** The file's streams end. */
  forget(fileId: number): void {
    for (const stream of this.#streams.get(fileId) ?? []) this.#end(stream);
    this.#streams.delete(fileId);
  }

  #end(stream: Stream | undefined): void {
    if (stream !== undefined) this.#onEnd(stream.id);
  }
}

/** Of those within reach: one of the same thread, then the nearest. */
function nearest(streams: readonly Stream[], tid: number, offsetBytes: number): Stream | undefined {
  let best: Stream | undefined;
  let bestDistance = Infinity;
  for (const stream of streams) {
    const gapBytes = Math.abs(offsetBytes - stream.positionBytes);
    if (gapBytes > streamSlackBytes) continue;
    const distance = gapBytes + (stream.tid === tid ? 0 : streamSlackBytes);
    if (distance >= bestDistance) continue;
    bestDistance = distance;
    best = stream;
  }
  return best;
}

/** The reading streams (open files) that the engine knows, and the read-ahead made for them. */
import type { ContentFile } from '../tree/content.ts';
import type { ContentRecall } from './content-recall.ts';
import type { Flight } from './flights.ts';
import type { RecallLimits } from './limits.ts';
import type { Planner } from './planner.ts';
import { ReadStream } from './readahead.ts';
import type { Requester } from './recall.ts';

/** One read of a stream, a miss or a hit. */
export interface StreamRead {
  readonly streamId: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly requester: Requester;
}

interface Stream {
  readonly contentId: number;
  readonly reads: ReadStream;
}

export interface StreamsOptions {
  readonly limits: RecallLimits;
  readonly planner: Planner;
  readonly giveUp: (content: ContentRecall, flight: Flight) => void;
}

export class Streams {
  readonly #options: StreamsOptions;
  readonly #byId: Map<number, Stream> = new Map();

  constructor(options: StreamsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#byId.size;
  }

  /** Takes note of a read and plans the read-ahead that it calls for. */
  read(content: ContentRecall, read: StreamRead): void {
    const { file } = content;
    const { streamId, requester } = read;
    const { reads } = this.#streamOf(file, streamId);
    const { ahead, seeked } = reads.observe(read.offsetBytes, read.lengthBytes, file.sizeBytes);
    if (seeked) this.#drop(content, streamId, false);
    if (ahead === undefined) return;
    const plannedToChunk = this.#options.planner.planAhead(content, {
      ...ahead,
      windowBytes: reads.windowBytes,
      intent: 'readahead',
      requester,
      streamId,
    });
    const plannedToBytes = plannedToChunk * file.residency.chunkBytes;
    if (plannedToBytes < ahead.toBytes) reads.plannedTo(plannedToBytes);
  }

  /** There was no room for what was to be read ahead. */
  forgone(flight: Flight): void {
    for (const streamId of flight.streamIds) {
      this.#byId.get(streamId)?.reads.forgone(flight.offsetBytes);
    }
  }

  /** Forgets a stream. Returns the content that it read, whose read-ahead `stop` then ends. */
  forget(streamId: number): number | undefined {
    const contentId = this.#byId.get(streamId)?.contentId;
    this.#byId.delete(streamId);
    return contentId;
  }

  /** Ends the read-ahead that was only for this stream, also what is under way. */
  stop(content: ContentRecall, streamId: number): void {
    this.#drop(content, streamId, true);
  }

  clear(): void {
    this.#byId.clear();
  }

  #drop(content: ContentRecall, streamId: number, alsoActive: boolean): void {
    for (const flight of content.flights.list()) {
      if (!flight.streamIds.has(streamId)) continue;
      if (flight.transfer !== undefined && !alsoActive) continue;
      flight.streamIds.delete(streamId);
      if (flight.streamIds.size > 0 || content.hasUse(flight)) continue;
      this.#options.giveUp(content, flight);
    }
  }

  #streamOf(file: ContentFile, streamId: number): Stream {
    const known = this.#byId.get(streamId);
    if (known !== undefined && known.contentId === file.id) return known;
    const { limits } = this.#options;
    if (known === undefined && this.#byId.size >= limits.streamsMax) {
      const [oldest] = this.#byId.keys();
      if (oldest !== undefined) this.#byId.delete(oldest);
    }
    const stream = {
      contentId: file.id,
      reads: new ReadStream(limits, file.residency.chunkBytes),
    };
    this.#byId.set(streamId, stream);
    return stream;
  }
}

/** Answers a server that asks for parts of a remote image. It may ask for anything: what it says is checked here. */
import { Socket } from 'node:net';
import { Errno } from '../../base/errno.ts';
import type { ErrnoCode } from '../../base/errno.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { askMaxBytes, decodeAsk, decodePrefetch } from '../messages.ts';
import { isInside, nonsense } from './server-words.ts';
import type { ImageRecall } from './source.ts';

/** Recalls of which the server has not yet taken how they ended; more are refused with EAGAIN. */
const recallsMax = 16_384;
/** What is brought because of hints, at any time; more hints are dropped. */
export const aheadMaxBytes = 64 * 1024 * 1024;
const recallNumberMax = 0x7fff_ffff;
/** Readers of a file are told these; what else a remote may say means nothing to them. */
const passedOn: ReadonlySet<ErrnoCode> = new Set<ErrnoCode>(['EIO', 'ENOSPC', 'EDQUOT', 'EAGAIN']);

export class RecallDesk implements Disposable {
  readonly #recall: ImageRecall;
  readonly #imageBytes: number;
  readonly #notices: Socket;
  /** Why the last recall that failed did: the server knows an errno only. */
  lastFailure: string | undefined;
  #lastNumber = 0;
  #recalls = 0;
  readonly #lost = Promise.withResolvers<undefined>();
  #aheadBytes = 0;

  /** Resolves when nobody takes notices any more, as far as a write can tell: the server waits for them. */
  get lost(): Promise<undefined> {
    return this.#lost.promise;
  }

  /** Takes over our end of the socket for notices. */
  constructor(recall: ImageRecall, imageBytes: number, noticesFd: OwnedFd) {
    this.#recall = recall;
    this.#imageBytes = imageBytes;
    // Writes are queued here: a server that does not read them cannot stop us. `recallsMax` bounds them.
    this.#notices = new Socket({ fd: noticesFd.release(), readable: false, writable: true });
    this.#notices.on('error', () => this.#lost.resolve(undefined));
  }

  /** See `RecallSource.ask`. Throws EPROTO for nonsense. */
  ask(payload: Uint8Array): number {
    const request = decodeAsk(payload);
    if (request === undefined) throw ebbError('EPROTO', nonsense);
    const { offsetBytes, sizeBytes } = request;
    if (!isInside(offsetBytes, sizeBytes, this.#imageBytes) || sizeBytes > askMaxBytes)
      return -Errno.EINVAL;
    if (this.#recall.isHere(offsetBytes, sizeBytes)) return 0;
    const deadlineMs = Math.min(request.deadlineMs, this.#recall.deadlineMs);
    if (!(deadlineMs > 0) || this.#recalls >= recallsMax) return -Errno.EAGAIN;
    const number = this.#nextNumber();
    this.#recalls += 1;
    this.#recall.bring(offsetBytes, sizeBytes, deadlineMs).then(
      () => this.#ended(number, 0),
      (error: unknown) => {
        this.lastFailure = toEbbError(error).message;
        this.#ended(number, errnoFor(error));
      },
    );
    return number;
  }

  /** Hints that make no sense do nothing. */
  prefetch(payload: Uint8Array): void {
    for (const { offsetBytes, sizeBytes } of decodePrefetch(payload)) {
      const lengthBytes = Math.min(sizeBytes, this.#imageBytes - offsetBytes);
      if (!isInside(offsetBytes, lengthBytes, this.#imageBytes) || lengthBytes === 0) continue;
      if (this.#aheadBytes + lengthBytes > aheadMaxBytes) return;
      if (this.#recall.isHere(offsetBytes, lengthBytes)) continue;
      // In whole chunks: of hints of one byte there could be millions otherwise.
      const { chunkBytes } = this.#recall;
      const first = Math.floor(offsetBytes / chunkBytes);
      const end = Math.ceil((offsetBytes + lengthBytes) / chunkBytes);
      const broughtBytes = (end - first) * chunkBytes;
      this.#aheadBytes += broughtBytes;
      // Whoever needs it asks, and hears why it does not come.
      const done = (): void => {
        this.#aheadBytes -= broughtBytes;
      };
      this.#recall.bringAhead(offsetBytes, lengthBytes).then(done, done);
    }
  }

  [Symbol.dispose](): void {
    this.#notices.destroy();
  }

  #nextNumber(): number {
    this.#lastNumber = this.#lastNumber === recallNumberMax ? 1 : this.#lastNumber + 1;
    return this.#lastNumber;
  }

  #ended(number: number, errno: number): void {
    if (this.#notices.destroyed) return;
    // Not before it has gone: a server that takes none of them could have any number wait here.
    this.#notices.write(new Uint8Array(Int32Array.of(number, errno).buffer), () => {
      this.#recalls -= 1;
    });
  }
}

function errnoFor(error: unknown): number {
  const known = toEbbError(error);
  return passedOn.has(known.code) ? known.errno : Errno.EIO;
}

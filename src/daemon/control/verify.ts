/** `ebb verify`: compares what is local with the remote, byte by byte, without changing either. */
import { ebbError } from '../../base/errors.ts';
import type { RangeSink, Remote } from '../../remote/remote.ts';
import type { ContentFile } from '../../tree/content.ts';
import type { FileWork } from './action-runner.ts';

const pieceBytes = 1024 * 1024;

/** Receives the remote's bytes of one range and compares them with the local file. */
class ComparingSink implements RangeSink {
  readonly #file: ContentFile;
  readonly #onCompared: (bytes: number) => void;
  readonly #remote = new Uint8Array(pieceBytes);
  readonly #local = new Uint8Array(pieceBytes);
  #offset: number;

  constructor(file: ContentFile, offset: number, onCompared: (bytes: number) => void) {
    this.#file = file;
    this.#offset = offset;
    this.#onCompared = onCompared;
  }

  head(): void {
    // The version was asked for by name; the remote (and the checking wrapper) compared it already.
  }

  buffer(): Uint8Array {
    return this.#remote;
  }

  filled(countBytes: number): void {
    const local = this.#local.subarray(0, countBytes);
    const read = this.#file.readSync(local, this.#offset);
    const equal = Buffer.compare(local, this.#remote.subarray(0, countBytes)) === 0;
    if (read !== countBytes || !equal) {
      throw ebbError(
        'EBADMSG',
        `local bytes ${this.#offset}..${this.#offset + countBytes} differ from the remote's of the same version`,
      );
    }
    this.#offset += countBytes;
    this.#onCompared(countBytes);
  }
}

/**
 * Compares every resident chunk. EBADMSG names the first difference; ESTALE: the remote has another version now;
 * other errors as the remote gives them.
 */
export async function verifyContent(
  file: ContentFile,
  remote: Remote,
  work: FileWork,
  signal: AbortSignal,
): Promise<void> {
  for (const run of file.residency.runs()) {
    const { offsetBytes, lengthBytes } = file.residency.bytesOf(run);
    const sink = new ComparingSink(file, offsetBytes, (bytes) => {
      work.doneBytes += bytes;
    });
    await remote.read(file.key, sink, { offsetBytes, lengthBytes, version: file.version, signal });
  }
}

/** The bytes of a content for a program that asks the daemon for them: recalled as they are needed, in pieces. */
import { ebbError } from '../../base/errors.ts';
import type { Recall } from '../../recall/recall.ts';
import type { ContentFile } from '../../tree/content.ts';
import { daemonRequester } from '../control/get.ts';

/** Read and handed over at a time. */
const pieceBytes = 1024 * 1024;

/** Reading streams of the API, apart from those of the front ends, which count upwards. */
let lastStream = 0;

/**
 * `lengthBytes` from `offsetBytes`, both within the file. Rejects as `Recall.ensure`, and with EIO when bytes were
 * given up meanwhile. The pieces are valid until the next one is asked for.
 */
export async function* readContent(
  recall: Pick<Recall, 'ensure' | 'endStream'>,
  file: ContentFile,
  { offsetBytes, lengthBytes }: { readonly offsetBytes: number; readonly lengthBytes: number },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  lastStream -= 1;
  const streamId = lastStream;
  const buffer = new Uint8Array(Math.min(pieceBytes, lengthBytes));
  const endBytes = offsetBytes + lengthBytes;
  try {
    for (let at = offsetBytes; at < endBytes; at += buffer.length) {
      const piece = buffer.subarray(0, Math.min(buffer.length, endBytes - at));
      const asked = { intent: 'demand', requester: daemonRequester(), streamId, signal } as const;
      await recall.ensure(file, at, piece.length, asked);
      // A claim may have been taken back meanwhile: never bytes that are not vouched for.
      const isHere = file.residency.has(at, piece.length);
      if (!isHere || file.readSync(piece, at) !== piece.length) {
        throw ebbError('EIO', `The bytes of ${file.key} were given up while they were read.`, {
          retryable: true,
        });
      }
      yield piece;
    }
  } finally {
    recall.endStream(streamId);
  }
}

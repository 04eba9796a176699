/**
 * Bytes of a listing to text, in pieces. UTF-8 is decoded without loss (base/name.ts: bytes that are not UTF-8
 * become lone surrogates), because nginx puts raw names into JSON; other charsets by the platform's decoder.
 */
import { decodeName } from '../../../base/name.ts';

export interface StreamDecoder {
  /** The bytes may be reused by the caller afterwards. */
  write(bytes: Uint8Array): string;
  end(): string;
}

/** `contentType` as in the header field. Unknown charsets are read as UTF-8. */
export function streamDecoder(contentType: string | undefined): StreamDecoder {
  const charset = /;\s*charset="?([^\s;"]+)/i.exec(contentType ?? '')?.[1]?.toLowerCase();
  if (charset !== undefined && charset !== 'utf-8' && charset !== 'utf8') {
    try {
      const decoder = new TextDecoder(charset);
      return {
        write: (bytes) => decoder.decode(bytes, { stream: true }),
        end: () => decoder.decode(),
      };
    } catch {
      // No such charset: hrefs are ASCII with every server that is known here.
    }
  }
  return losslessUtf8();
}

function losslessUtf8(): StreamDecoder {
  let held = new Uint8Array(0);
  return {
    write(bytes) {
      const joined = held.length === 0 ? bytes : Buffer.concat([held, bytes]);
      const complete = joined.length - unfinishedBytes(joined);
      held = Uint8Array.from(joined.subarray(complete));
      return decodeName(joined.subarray(0, complete));
    },
    end() {
      const rest = decodeName(held);
      held = new Uint8Array(0);
      return rest;
    },
  };
}

/** How many bytes at the end may be the start of a character that continues in the next piece: 0..3. */
function unfinishedBytes(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) {
      const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
      return length > back ? back : 0;
    }
  }
  return 0;
}

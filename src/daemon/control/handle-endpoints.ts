/**
 * The endpoints of handle tokens: HTTP around `HandleHandlers`. Content is answered as a web server does, so that curl
 * and others can read it: `Range: bytes=...` with one range, 206, 416.
 */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { HandleHandlers, TokenContent } from './handlers.ts';

export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * One range of RFC 9110, 14.1.2, within `sizeBytes`; undefined without a header. Throws EINVAL for what is no single
 * range of bytes, ERANGE for one beyond the end.
 */
export function parseRange(header: string | undefined, sizeBytes: number): ByteRange | undefined {
  if (header === undefined) return undefined;
  const match = /^bytes=(\d{0,16})-(\d{0,16})$/.exec(header);
  const [, first = '', last = ''] = match ?? [];
  if (match === null || (first === '' && last === '')) {
    throw ebbError('EINVAL', `The range ${header} is not one range of bytes.`);
  }
  const offsetBytes = first === '' ? Math.max(0, sizeBytes - Number(last)) : Number(first);
  const endBytes = first === '' || last === '' ? sizeBytes : Math.min(sizeBytes, Number(last) + 1);
  if (offsetBytes >= sizeBytes || endBytes <= offsetBytes) {
    throw ebbError('ERANGE', `The range ${header} is not within the file's ${sizeBytes} bytes.`);
  }
  return { offsetBytes, lengthBytes: endBytes - offsetBytes };
}

/** Answers with the token's content, or with the part of it that the request asks for. */
export async function sendTokenContent(
  handles: HandleHandlers,
  token: string,
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  const content = await handles.open(token, signal);
  const range = parseRange(request.headers.range, content.sizeBytes);
  const { offsetBytes, lengthBytes } = range ?? { offsetBytes: 0, lengthBytes: content.sizeBytes };
  const headers = { 'content-type': 'application/octet-stream', 'content-length': lengthBytes };
  const writeHead = (): void => {
    if (range === undefined) return void response.writeHead(200, headers);
    const last = offsetBytes + lengthBytes - 1;
    const contentRange = `bytes ${offsetBytes}-${last}/${content.sizeBytes}`;
    response.writeHead(206, { ...headers, 'content-range': contentRange });
  };
  await pour(content, { offsetBytes, lengthBytes }, response, signal, writeHead);
}

/** A failure before the first byte is the request's error; after it the body ends short, which the client sees. */
async function pour(
  content: TokenContent,
  range: ByteRange,
  response: ServerResponse,
  signal: AbortSignal,
  writeHead: () => void,
): Promise<void> {
  let begun = false;
  try {
    for await (const piece of content.read(range, signal)) {
      if (!begun) writeHead();
      begun = true;
      // The buffer is used again for the next piece.
      if (!response.write(Uint8Array.from(piece))) await once(response, 'drain', { signal });
    }
  } catch (error) {
    if (!begun) throw error;
    response.destroy(toEbbError(error));
    return;
  }
  if (!begun) writeHead();
  response.end();
}

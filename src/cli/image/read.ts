/** Runs the reader of images as a child process: lines come back here, content goes straight to standard output. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ebbError } from '../../base/errors.ts';
import type { ImageHelperRequest, ImageLine } from '../../daemon/helper-api.ts';

const standardOutput = 1;
const complaintsMaxLength = 2000;

/**
 * The lines of one request, in order. Ends without the last one, `done`, when nobody takes the content any more.
 * Rejects with EIO when the reader dies.
 */
export async function* readImage(request: ImageHelperRequest): AsyncGenerator<ImageLine> {
  const script = fileURLToPath(new URL('../../daemon/image/main.ts', import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, script], {
    stdio: ['pipe', 'pipe', 'pipe', standardOutput],
  });
  let complaints = '';
  const [input, output, errors] = child.stdio;
  errors?.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(-complaintsMaxLength);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  input?.on('error', () => {});
  input?.end(JSON.stringify(request));
  let finished = false;
  try {
    if (output === null) throw ebbError('EIO', 'The reader of images has no output.');
    for await (const line of createInterface({ input: output, crlfDelay: Infinity })) {
      const parsed = parseLine(line);
      // It died while it said it.
      if (parsed === undefined) break;
      if ('done' in parsed || ('error' in parsed && parsed.error.path === '')) finished = true;
      yield parsed;
    }
    // Standard output was closed: it left without a word.
    if ((await ended) === 0) finished = true;
  } finally {
    child.kill();
  }
  if (!finished) {
    const why = complaints.split('\n').find((line) => /Error/.test(line)) ?? 'it said nothing';
    throw ebbError('EIO', `The reader of images failed: ${why}`);
  }
}

function parseLine(line: string): ImageLine | undefined {
  try {
    return JSON.parse(line) as ImageLine;
  } catch {
    return undefined;
  }
}

/**
 * Entry point of the broker of one image mount, started by `ebb image mount`: options on standard input, the result on
 * descriptor 3, the log on standard error. Lives until the mount is gone (docs/image.md, "Processes").
 */
import { closeSync, writeSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { toEbbError } from '../../base/errors.ts';
import { mountNative } from './native.ts';
import { parseBrokerOptions } from './options.ts';
import { serveImage } from './serve.ts';
import type { ImageMount } from './serve.ts';

const resultDescriptor = 3;

function report(line: object): void {
  try {
    writeSync(resultDescriptor, `${JSON.stringify(line)}\n`);
    closeSync(resultDescriptor);
  } catch {
    // Whoever started us is gone; the mount goes on without it.
  }
}

function log(message: string): void {
  process.stderr.write(`${new Date().toISOString()} image: ${message}\n`);
}

async function main(): Promise<void> {
  let mounted: ImageMount | undefined;
  let stopping = false;
  const stop = (): void => {
    stopping = true;
    mounted?.stop();
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
  try {
    const options = parseBrokerOptions(await text(process.stdin));
    if (options.native) {
      report({ ok: true, pid: 0, mode: 'native', ...(await mountNative(options)) });
      return;
    }
    mounted = await serveImage(options);
    report({ ok: true, pid: process.pid, mode: 'fuse', ...mounted.opened });
  } catch (thrown) {
    const error = toEbbError(thrown);
    const exitCode = error.code === 'EINVAL' ? 2 : 1;
    report({ ok: false, error: error.message, code: error.code, exitCode });
    log(error.stack ?? error.message);
    process.exitCode = exitCode;
    return;
  }
  if (stopping) mounted.stop();
  const why = await mounted.ended;
  log(why === undefined ? 'unmounted' : `ended: ${why}`);
}

// A log that nobody reads any more is no reason to end.
process.stderr.on('error', () => undefined);
await main();

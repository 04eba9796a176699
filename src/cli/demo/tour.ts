/** What `ebb demo` shows: a few reads through the mount, each with its time and with what the server was asked. */
import { open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { systemClock } from '../../base/clock.ts';
import { visible } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { formatBytes, formatDuration, formatRate, plural } from '../units.ts';
import { digestFile, readBlocks } from './content.ts';
import type { DemoServer } from './processes.ts';
import type { ServedRequest } from './server.ts';

export interface TourPlaces {
  readonly mountPoint: string;
  /** The same files without Ebb. */
  readonly served: string;
  /** The file to read, relative to both. */
  readonly bigFile: string;
}

/** The server's log arrives over a pipe; this is enough for what was just asked to be in it. */
const logDelayMs = 100;
/** A rate is the best of so many readings, on both sides alike: other programs disturb single ones. */
const readingsPerRate = 3;

/** Takes the tour; throws when a byte is wrong. */
export async function takeTour(
  places: TourPlaces,
  server: DemoServer,
  terminal: Terminal,
): Promise<void> {
  const throughMount = path.join(places.mountPoint, places.bigFile);
  const native = path.join(places.served, places.bigFile);
  const listing = await timed(() => readdir(places.mountPoint, { withFileTypes: true }));
  terminal.print(
    `List    ${plural(listing.value.length, 'name')} in ${formatDuration(listing.ms)}; no content yet`,
  );
  const { size } = await stat(throughMount);
  await showFirstByte(throughMount, places.bigFile, size, server, terminal);
  const cold = await timed(() => readBlocks(throughMount));
  const rate = (ms: number): string => formatRate((size * 1000) / Math.max(ms, 0.01));
  terminal.print(`Read 1  all of it, from the server: ${rate(cold.ms)}`);
  await settle();
  const before = server.requests.length;
  const warm = await best(() => readBlocks(throughMount));
  const plain = await best(() => readBlocks(native));
  await settle();
  const asked = contentRequests(server.requests.slice(before)).length;
  terminal.print(
    `Read 2  all of it again: ${rate(warm)}, ${plural(asked, 'request')} to the server ` +
      `(the original, without Ebb: ${rate(plain)})`,
  );
  const [mounted, original] = [await digestFile(throughMount), await digestFile(native)];
  if (original.sha256 !== mounted.sha256) throw new Error('the bytes differ: this must never be');
  terminal.print(`Proof   both have SHA-256 ${original.sha256.slice(0, 16)}...`);
}

async function showFirstByte(
  file: string,
  name: string,
  sizeBytes: number,
  server: DemoServer,
  terminal: Terminal,
): Promise<void> {
  const before = server.requests.length;
  const first = await timed(async () => {
    await using handle = await open(file, 'r');
    await handle.read(Buffer.alloc(1), 0, 1, 0);
  });
  await settle();
  const ranges = contentRequests(server.requests.slice(before));
  const arrived = ranges.reduce((sum, one) => sum + (one.lengthBytes ?? 0), 0);
  const which = ranges.slice(0, 4).map(formatRange).join(', ');
  terminal.print(
    `Byte 1  of ${visible(name)} (${formatBytes(sizeBytes)}) after ${formatDuration(first.ms)}; ` +
      `fetched: ${formatBytes(arrived)} (${which === '' ? 'it was here already' : which})`,
  );
}

function contentRequests(requests: readonly ServedRequest[]): readonly ServedRequest[] {
  return requests.filter((one) => one.method === 'GET' && one.lengthBytes !== undefined);
}

function formatRange({ offsetBytes = 0, lengthBytes = 0 }: ServedRequest): string {
  return `bytes ${offsetBytes}-${offsetBytes + lengthBytes - 1}`;
}

async function timed<Value>(work: () => Promise<Value>): Promise<{ value: Value; ms: number }> {
  const startedMs = systemClock.monotonicMs();
  const value = await work();
  return { value, ms: systemClock.monotonicMs() - startedMs };
}

async function best(work: () => Promise<unknown>): Promise<number> {
  let bestMs = Infinity;
  for (let reading = 0; reading < readingsPerRate; reading += 1) {
    bestMs = Math.min(bestMs, (await timed(work)).ms);
  }
  return bestMs;
}

async function settle(): Promise<void> {
  await new Promise((resolve) => void setTimeout(resolve, logDelayMs));
}

/**
 * The least that a Node program over our FUSE library needs for what `deep`, `first` and `walk` measure: the same
 * requests to the web server (a listing for each directory, HEAD and first chunk of a file), and nothing else. No
 * catalog, no cache, nothing checked, names found by one regular expression, answers written by the main thread. What
 * Ebb needs above this is its own; what this needs is Node's.
 *
 *   node bench/floor.ts URL PATH deep|first|find [RUNS]
 *
 * Mounts, runs bench/reader.c (`stat`, `first`) or find(1) on PATH once for each run and prints milliseconds: the first
 * one is cold, the others find the code warm and nothing else (names are forgotten in between). For find, directories
 * are asked for as soon as their names are known.
 */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import {
  deviceTransport,
  FuseThreads,
  mountPrivileged,
  plainAttributes,
  Replier,
} from '../src/fuse/public.ts';
import type { FloorQuestion } from './floor-thread.ts';

const chunkBytes = 256 * 1024;
const timeoutMs = 60_000;

/** One kept connection: a request is answered with head and body. */
class PlainHttp {
  readonly #socket;
  readonly #host: string;
  #done: ((answer: { head: string; body: Buffer }) => void) | undefined;
  #isHead = false;
  #pieces: Buffer[] = [];
  #last: Promise<unknown> = Promise.resolve();

  constructor(url: URL) {
    this.#host = url.host;
    this.#socket = connect({ host: url.hostname, port: Number(url.port), noDelay: true });
    this.#socket.on('data', (piece) => this.#came(piece as Buffer));
  }

  /** One after the other. */
  ask(method: string, file: string, range = ''): Promise<{ head: string; body: Buffer }> {
    const answer = this.#last.then(() => this.#ask(method, file, range));
    this.#last = answer;
    return answer;
  }

  #ask(method: string, file: string, range: string): Promise<{ head: string; body: Buffer }> {
    return new Promise((resolve) => {
      this.#done = resolve;
      this.#isHead = method === 'HEAD';
      this.#pieces = [];
      this.#socket.write(`${method} ${file} HTTP/1.1\r\nhost: ${this.#host}\r\n${range}\r\n`);
    });
  }

  #came(piece: Buffer): void {
    this.#pieces.push(piece);
    const all = this.#pieces.length === 1 ? piece : Buffer.concat(this.#pieces);
    const end = all.indexOf('\r\n\r\n');
    if (end < 0) return;
    const head = all.toString('latin1', 0, end);
    const length = /^content-length: (\d+)/im.exec(head)?.[1];
    const body = all.subarray(end + 4);
    const isWhole =
      this.#isHead ||
      (length === undefined
        ? body.subarray(-5).toString('latin1') === '0\r\n\r\n'
        : body.length >= Number(length));
    if (isWhole) this.#done?.({ head, body });
  }

  close(): void {
    this.#socket.destroy();
  }
}

const [urlText = '', file = '', mode = 'deep', runs = '5'] = process.argv.slice(2);
const url = new URL(urlText);
const http = [new PlainHttp(url), new PlainHttp(url)] as const;
const paths = new Map<number, string>([[1, url.pathname.replace(/\/$/, '')]]);
/** For find: by directory; each run begins without. */
const listings = new Map<string, Promise<readonly string[]>>();
let nextId = 2;
let names = 0;

const directory = mkdtempSync(path.join(os.tmpdir(), 'floor-'));
const reader = path.join(directory, 'reader');
execFileSync('gcc', ['-O2', '-o', reader, path.join(import.meta.dirname, 'reader.c')]);
const mountPoint = mkdtempSync(path.join(directory, 'mnt-'));
const connection = mountPrivileged({ mountPoint, fsname: 'floor' });
const replier = new Replier(deviceTransport(connection.fileDescriptor));
const threads = await FuseThreads.start({
  deviceFileDescriptor: connection.fileDescriptor,
  moduleUrl: new URL('./floor-thread.ts', import.meta.url),
  onMessage: (message) => void answer(message as FloorQuestion),
});
await threads.connected;

async function answer(question: FloorQuestion): Promise<void> {
  const { unique, resent, nodeId, name } = question;
  const at = paths.get(nodeId) ?? '';
  if (question.kind === 'read') {
    const range = `range: bytes=${question.offset}-${question.offset + chunkBytes - 1}\r\n`;
    const { body } = await http[0].ask('GET', at, range);
    replier.data({ unique, resent }, body.subarray(0, question.sizeBytes));
    return;
  }
  if (question.kind === 'list') {
    const links = await listing(at);
    const entries = replier.directory(question.sizeBytes, question.plus);
    for (let index = question.offset; index < links.length; index += 1) {
      const link = links[index] ?? '';
      const mode_ = link.endsWith('/') ? 0o040755 : 0o100644;
      const entryName = Buffer.from(link.replace(/\/$/, ''));
      const fits = question.plus
        ? entries.addPlus(entryName, 1, mode_, index + 1, undefined)
        : entries.add(entryName, 1, mode_, index + 1);
      if (!fits) break;
    }
    replier.directoryDone({ unique, resent });
    return;
  }
  const isFile = name.includes('.');
  const links = listing(at);
  const head = isFile ? http[1].ask('HEAD', `${at}/${name}`) : undefined;
  const found = (await links).find((link) => link === name || link === `${name}/`);
  if (found === undefined) return void replier.error({ unique, resent }, 2);
  const id = nextId++;
  paths.set(id, `${at}/${name}`);
  const sizeBytes = Number(/^content-length: (\d+)/im.exec((await head)?.head ?? '')?.[1] ?? 0);
  const mode_ = found.endsWith('/') ? 0o040755 : 0o100644;
  const attributes = plainAttributes({ ino: id, mode: mode_, sizeBytes });
  const timeouts = { entryTimeoutMs: 60_000, attributeTimeoutMs: 60_000 };
  replier.entry({ unique, resent }, { nodeId: id, generation: 0, ...timeouts, attributes });
}

/** The links of a directory's page. */
function listing(at: string): Promise<readonly string[]> {
  const known = listings.get(at);
  if (known !== undefined) return known;
  const links = http[0].ask('GET', `${at}/`).then(({ body }) => {
    const all = [...body.toString('latin1').matchAll(/href="([^"/.][^"]*)"/g)];
    return all.map(([, link = '']) => link);
  });
  if (mode !== 'find') return links;
  listings.set(at, links);
  void links.then((all) => {
    for (const link of all) if (link.endsWith('/')) void listing(`${at}/${link.slice(0, -1)}`);
  });
  return links;
}

const run = promisify(execFile);

async function readOnce(): Promise<number> {
  const target = path.join(mountPoint, file);
  if (mode === 'find') {
    const startedAtMs = performance.now();
    const { stdout } = await run('find', [target], { timeout: timeoutMs, maxBuffer: 2 ** 28 });
    names = stdout.split('\n').length - 1;
    return performance.now() - startedAtMs;
  }
  const parameters = [mode === 'deep' ? 'stat' : 'first', target];
  const { stdout } = await run(reader, parameters, { timeout: timeoutMs });
  return (JSON.parse(stdout) as { seconds: number }).seconds * 1000;
}

const times: string[] = [];
try {
  for (let count = 0; count < Number(runs); count += 1) {
    times.push((await readOnce()).toFixed(2));
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    listings.clear();
  }
} finally {
  spawnSync('umount', ['-l', mountPoint]);
  await threads.ended.catch(() => undefined);
  connection.close();
  for (const one of http) one.close();
  rmSync(directory, { recursive: true, force: true });
}
console.log(times.join(' '), mode === 'find' ? `(${names} names)` : '');

/** What is measured with: the content, made once, an nginx over it, and the same nginx behind a delaying proxy. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { CorpusWriter, mebibyte } from '../test/support/corpus.ts';
import { startDelayProxyProcess } from '../test/support/delay-proxy.ts';
import { startNginx } from '../test/support/servers.ts';
import { temporaryDirectory } from '../test/support/temporary.ts';

/** Round-trip delays of the two origins. */
export type DelayMs = 0 | 20;

export interface Origin extends AsyncDisposable {
  /** The content as a native directory. */
  readonly native: string;
  /** Ends with `/`. */
  url(delayMs: DelayMs): string;
  /** Body bytes that nginx has sent so far. */
  servedBytes(): Promise<number>;
}

/** Names inside the origin. */
export const content = {
  /** 1 GiB of noise (quick: 128 MiB). */
  large: 'large/large.bin',
  /** 7,639 files in 405 directories. */
  tree: 'tree',
  /** The file at the end of 40 directories. */
  deep: ['deep', ...Array.from({ length: 40 }, (_unused, level) => `level-${level}`), 'leaf'].join(
    '/',
  ),
} as const;

const treeFiles = 7639;
const treeDirectories = 405;

function writeContent(root: string, largeBytes: number): void {
  const writer = new CorpusWriter(root);
  writer.bytes(content.large, largeBytes);
  writer.text(content.deep, 'leaf\n');
  const directories = Array.from({ length: treeDirectories - 1 }, (_unused, index) =>
    path.join(root, content.tree, `d${index % 20}`, `e${index % 101}`, `f${index}`),
  ).map((directory, index) => (index < 280 ? directory : path.dirname(directory)));
  for (const directory of directories) mkdirSync(directory, { recursive: true });
  for (let index = 0; index < treeFiles; index += 1) {
    const directory = directories[index % directories.length] ?? root;
    writeFileSync(path.join(directory, `file-${index}.txt`), `${index} `.repeat(index % 2000));
  }
}

export async function startOrigin(quick: boolean): Promise<Origin> {
  const directory = await temporaryDirectory('bench');
  chmodSync(directory.path, 0o755);
  const native = path.join(directory.path, 'content');
  writeContent(native, (quick ? 128 : 1024) * mebibyte);
  const nginx = await startNginx({ root: native });
  const proxy = await startDelayProxyProcess({ targetPort: nginx.port, roundTripMs: 20 });
  return {
    native,
    url: (delayMs) => (delayMs === 0 ? nginx.url : `http://127.0.0.1:${proxy.port}/`),
    servedBytes: () => servedBytes(path.join(nginx.directory, 'access.log')),
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      await nginx.stop();
      await directory[Symbol.asyncDispose]();
    },
  };
}

async function servedBytes(accessLog: string): Promise<number> {
  let sum = 0;
  for (const match of (await readFile(accessLog, 'utf8')).matchAll(/" (?:200|206) (\d+) /g)) {
    sum += Number(match[1]);
  }
  return sum;
}

/** Images behind nginx, and mounting them as users do. */
import { readdirSync, statSync, utimesSync } from 'node:fs';
import path from 'node:path';
import type { RunningServer } from '../support/servers.ts';
import { nginxLog, startNginx } from '../support/servers.ts';
import { mountImage } from './fixture.ts';
import type { MountedImage } from './fixture.ts';

/** nginx over a directory that nobody may list. What it has is no news: that would be another version soon. */
export function serveImages(root: string, port?: number): Promise<RunningServer> {
  for (const name of readdirSync(root)) age(path.join(root, name));
  return startNginx({
    root,
    autoindex: 'off',
    workers: 1,
    ...(port === undefined ? {} : { port }),
  });
}

function age(file: string): void {
  const minuteAgo = Date.now() / 1_000 - 60;
  if (statSync(file).mtimeMs / 1_000 > minuteAgo) utimesSync(file, minuteAgo, minuteAgo);
}

export interface RemoteMountOptions {
  readonly url: string;
  readonly cache: string;
  /** Of `-o`. */
  readonly options?: string;
  readonly words?: readonly string[];
  readonly user?: { readonly uid: number; readonly gid: number };
}

export function mountRemote(options: RemoteMountOptions): Promise<MountedImage> {
  const { url, cache, user, words = [] } = options;
  const more = ['--cache-dir', cache, ...words];
  return mountImage({ path: url }, options.options ?? '', user, more);
}

export interface Transferred {
  readonly requests: number;
  readonly bytes: number;
}

/** GETs that nginx has answered so far, and the bytes of their bodies. */
export async function transferred(origin: RunningServer): Promise<Transferred> {
  const lines = (await nginxLog(origin)).split('\n');
  const sizes = lines.flatMap((line) => /"GET [^"]*" 20[06] (\d+)/.exec(line)?.[1] ?? []);
  return { requests: sizes.length, bytes: sizes.reduce((sum, size) => sum + Number(size), 0) };
}

/** Images behind nginx, and mounting them as users do. */
import type { RunningServer } from '../support/servers.ts';
import { nginxLog, startNginx } from '../support/servers.ts';
import { mountImage } from './fixture.ts';
import type { MountedImage } from './fixture.ts';

/** nginx over a directory that nobody may list. */
export function serveImages(root: string, port?: number): Promise<RunningServer> {
  return startNginx({
    root,
    autoindex: 'off',
    workers: 1,
    ...(port === undefined ? {} : { port }),
  });
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

/** `ebb image mount`: starts the broker and says what it says. */
import { isHttpUrl, withoutCredentials } from '../../base/http-url.ts';
import { ebbError } from '../../base/errors.ts';
import { complain } from '../failure.ts';
import { checkCachePlace } from '../mount/checks.ts';
import { defaultCacheParent } from '../mount/options.ts';
import { minFreeBytes, optional } from '../option-values.ts';
import { buildRemoteAccess } from '../remote-options.ts';
import type { RemoteCliOptions } from '../remote-options.ts';
import { startService } from '../start-service.ts';
import type { Started } from '../start-service.ts';
import { absolutePath, realDirectory } from '../target.ts';
import { shellWord, visible } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { parseSize } from '../units.ts';
import { ExitCode, UsageError } from '../verb.ts';
import { parsePlaceOptions } from './options.ts';
import type { PlaceOptions } from './options.ts';
import { imageMounts } from './mounts.ts';
import { imageService } from './service.ts';

type MountOptions = PlaceOptions['selection'] &
  Pick<PlaceOptions, 'journal'> & { readonly native: boolean; readonly allowOther: boolean };

/** What the broker says (src/image/broker/main.ts). */
interface Mounted {
  readonly ok: true;
  readonly mode: 'fuse' | 'native';
  readonly label: string;
  readonly notes: readonly string[];
}

/**
 * A native mount says nothing before it is there, which takes a minute for a million files, and much longer on a busy
 * machine. The broker has limits of its own.
 */
const nativeSilenceMaxMs = 1_800_000;

/** How a remote image is reached, and where its parts are kept. */
export interface ImageRemoteOptions extends RemoteCliOptions {
  readonly cacheDir?: string;
  readonly cacheSize?: string;
  readonly minFree?: string;
}

/** `offset=1M,partition=2,ro,native,allow_other,noload`: as mount(8) separates them. */
export function parseMountOptions(lists: readonly string[]): MountOptions {
  let native = false;
  let allowOther = process.getuid?.() === 0;
  const place: string[] = [];
  for (const word of lists.flatMap((list) => list.split(','))) {
    if (word === 'rw') throw new UsageError('images are mounted read-only');
    if (word === 'native') native = true;
    else if (word === 'allow_other') allowOther = true;
    else place.push(word);
  }
  const { selection, journal } = parsePlaceOptions(place);
  return { ...selection, native, allowOther, journal };
}

/** Where the copy of a remote image is, and how much of it there may be. */
function copyOptions({ cacheDir, cacheSize, minFree }: ImageRemoteOptions): object {
  const cacheDirectory = cacheDir === undefined ? undefined : absolutePath(cacheDir);
  return {
    cacheDirectory,
    cacheSizeBytes: optional(parseSize)(cacheSize, '--cache-size'),
    minFreeBytes: minFreeBytes(minFree, cacheDirectory ?? defaultCacheParent()),
  };
}

/** `what`: all that these options are for. */
export function refuseCopyOptions(options: ImageRemoteOptions, what: string): void {
  const given = [
    ['--cache-dir', options.cacheDir],
    ['--cache-size', options.cacheSize],
    ['--min-free', options.minFree],
  ] as const;
  for (const [name, value] of given) {
    if (value !== undefined) throw new UsageError(`${name} is for ${what}`);
  }
}

/** Starts the broker in the background. Never throws for what it does: the exit code says it. */
export async function mountImage(
  image: string,
  directory: string,
  words: readonly string[],
  remote: ImageRemoteOptions,
  json: boolean,
  terminal: Terminal,
): Promise<ExitCode> {
  const options = parseMountOptions(words);
  const mountPoint = realDirectory(directory, 'mount point');
  if (imageMounts().some((one) => one.mountPoint === mountPoint)) {
    const unmount = `ebb umount ${shellWord(mountPoint)}`;
    throw ebbError('EBUSY', `${mountPoint} is mounted already; take it away with: ${unmount}`);
  }
  const isRemote = isHttpUrl(image);
  const imagePath = isRemote ? image : absolutePath(image);
  if (!isRemote) refuseCopyOptions(remote, 'images on a web server');
  if (remote.cacheDir !== undefined) checkCachePlace(absolutePath(remote.cacheDir), mountPoint);
  const own = isRemote ? { access: buildRemoteAccess(remote), ...copyOptions(remote) } : {};
  const { result }: Started<Mounted> = await startService<Mounted>(
    {
      ...imageService(image),
      mountPoint,
      foreground: false,
      aim: 'it had mounted anything',
      ...(options.native ? { silenceMaxMs: nativeSilenceMaxMs } : {}),
    },
    { imagePath, mountPoint, ...options, ...own },
  );
  if (!result.ok) return complain(result, 'ebb image mount', json, terminal);
  if (json) {
    terminal.print(JSON.stringify(result));
    return ExitCode.done;
  }
  for (const note of result.notes) terminal.warn(`ebb image mount: ${visible(note)}`);
  const name = result.label === '' ? '' : ` (${visible(result.label)})`;
  terminal.print(
    `Mounted ${visible(withoutCredentials(imagePath))}${name} at ${visible(mountPoint)}, read-only; ` +
      `unmount with: ebb umount ${shellWord(mountPoint)}`,
  );
  return ExitCode.done;
}

/**
 * A remote image as the broker sees it: a sparse copy in a cache like that of a mount, with one file. Its node in the
 * catalog is the version that the remote has now; an image that is another one tomorrow gets another node, and the old
 * copy stays as what it is, an orphan.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../base/clock.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { encodeName } from '../../base/name.ts';
import { NodeKind, ROOT_NODE_ID } from '../../catalog/catalog.ts';
import type { Catalog, NewNode, Node } from '../../catalog/catalog.ts';
import type { DurableParts, ImageRecall, ImageSource } from '../../image/broker/source.ts';
import type { SpaceLimits } from '../../policy/release-policy.ts';
import { RecallEngine } from '../../recall/engine.ts';
import type { Intent } from '../../recall/recall.ts';
import { openRemote } from '../../remote/open-remote.ts';
import type { Remote } from '../../remote/remote.ts';
import { OwnedFd } from '../../sys/fd.ts';
import { Residency } from '../../tree/residency.ts';
import type { StoredContent } from '../../tree/stored-content.ts';
import type { Logbook } from '../logbook.ts';
import { Contents } from '../mount/contents.ts';
import { Leftovers } from '../mount/leftovers.ts';
import type { TreeOptions, TreeProblem } from '../../tree/content-store.ts';
import { defaultCacheDirectory, optionDefaults, remoteIdentity } from '../options.ts';
import type { RemoteAccess } from '../start-api.ts';
import { CopyRoom } from './copy-room.ts';
import { locateImage } from './locate.ts';
import { rangesOnly, requireVersion } from './ranges-only.ts';

/** Of a page of metadata much less is needed than of a file that is read: a quarter of a mount's chunks. */
const chunkBytes = 64 * 1024;
/** How long a cache that is in use is waited for. */
const lockWaitMs = 3000;
const lockPollMs = 50;
const nobody = { pid: 0, uid: 0, gid: 0 };

export interface RecalledImageOptions {
  /** http or https. */
  readonly url: string;
  readonly access: RemoteAccess;
  /** Default: as for a mount of that URL. */
  readonly cacheDirectory?: string | undefined;
  /** Of the copy. Default: all but 8 MiB of its file system. */
  readonly limits?: SpaceLimits;
  /** The copy is to be mounted as it is: nothing goes to make room. */
  readonly native?: boolean;
  readonly log: (message: string) => void;
  /** Ends the opening: it rejects with the reason. */
  readonly signal?: AbortSignal;
  /** For tests of fault handling. */
  readonly syncData?: TreeOptions['syncData'];
}

export class RecalledImage implements ImageRecall, AsyncDisposable {
  readonly chunkBytes: number;
  readonly deadlineMs: number;
  readonly readAheadMaxBytes: number;
  readonly lost: Promise<string>;
  /** For the broker, which takes the descriptor over. */
  readonly source: ImageSource;
  readonly #remote: Remote;
  readonly #contents: Contents;
  readonly #room: CopyRoom;
  readonly #content: StoredContent;
  readonly #engine: RecallEngine;
  #durable: { readonly bitmap: Uint8Array; readonly residency: Residency } | undefined;

  private constructor(
    options: RecalledImageOptions,
    remote: Remote,
    contents: Contents,
    room: CopyRoom,
    { file, descriptor }: { readonly file: StoredContent; readonly descriptor: number },
    lost: Promise<string>,
  ) {
    const { access, log } = options;
    this.chunkBytes = file.residency.chunkBytes;
    this.deadlineMs = access.deadlineMs ?? optionDefaults.deadlineMs;
    this.readAheadMaxBytes = access.readAheadMaxBytes ?? optionDefaults.readAheadMaxBytes;
    this.lost = lost;
    this.#remote = remote;
    this.#contents = contents;
    this.#room = room;
    this.#content = file;
    this.#engine = new RecallEngine({
      remote: rangesOnly(remote),
      // The server knows which extents come next; what lies behind them in the image may be anything.
      limits: { deadlineMs: this.deadlineMs, readAheadMaxBytes: 0 },
      onEvent: (event) => {
        this.#room.note(event);
        const { kind, error } = event;
        if (kind === 'failed' && error !== undefined) log(`a part cannot be had: ${error.message}`);
      },
      reserve: () => this.#room.require(this.#engine.flights()),
      onStale: () => log('the image has changed at the server: unmount it and mount it again'),
    });
    this.source = {
      name: remoteIdentity(options.url),
      image: new OwnedFd(descriptor),
      imageBytes: file.sizeBytes,
      recall: this,
    };
  }

  /**
   * Asks the remote about the image and takes its cache into possession. Throws ENOENT, EACCES, EIO, ... of the remote,
   * EOPNOTSUPP when it does not tell size and version, EBUSY when the image is mounted already.
   */
  static async open(options: RecalledImageOptions): Promise<RecalledImage> {
    const { url, access, log } = options;
    const { directory, key } = locateImage(url);
    const { deadlineMs: _deadline, readAheadMaxBytes: _ahead, ...reach } = access;
    const { retries = optionDefaults.retries } = access;
    const remote = await openRemote({ ...reach, retries, url: directory, onRetry: log });
    const lost = Promise.withResolvers<string>();
    const onProblem = ({ kind, message }: TreeProblem): void => {
      log(message);
      // What the server was told is here would be taken back; it cannot be asked to forget.
      if (kind === 'sync failed' || kind === 'not ours') {
        lost.resolve(message.replace(/\.$/, ''));
      }
    };
    let contents: Contents | undefined;
    try {
      const { signal = new AbortController().signal } = options;
      const facts = await factsOf(remote, url, key, signal);
      const cacheDirectory = options.cacheDirectory ?? defaultCacheDirectory(url);
      const { syncData } = options;
      contents = await openContents(cacheDirectory, remoteIdentity(url), {
        onProblem,
        syncData,
        signal,
      });
      await countLeftovers(contents, log);
      const node = nodeFor(contents.catalog, key, facts);
      const room = new CopyRoom(options.limits ?? {}, contents);
      // For a native mount nothing is fetched.
      if (options.native !== true) {
        await room.makeRoom({ id: node.id, sizeBytes: facts.sizeBytes }, log);
      }
      const local = await contents.openLocal(node, key);
      const image = new RecalledImage(options, remote, contents, room, local, lost.promise);
      // The superblock is on its way while the server starts.
      image.bringAhead(0, image.chunkBytes).catch(() => undefined);
      return image;
    } catch (error) {
      await contents?.close().catch(() => undefined);
      await remote.close();
      throw error;
    }
  }

  isHere(offsetBytes: number, lengthBytes: number): boolean {
    return this.#content.residency.has(offsetBytes, lengthBytes);
  }

  /** By the catalog's record, in which nothing stands before it was synced. */
  durable(): DurableParts {
    const row = this.#contents.catalog.content(this.#content.id);
    if (row === undefined) return { has: () => false };
    if (this.#durable === undefined || !equalBytes(this.#durable.bitmap, row.bitmap)) {
      const residency = Residency.decode(row.bitmap, row.sizeBytes, row.chunkBytes);
      this.#durable = { bitmap: row.bitmap, residency };
    }
    return this.#durable.residency;
  }

  bring(offsetBytes: number, lengthBytes: number, deadlineMs: number): Promise<void> {
    return this.#ensure(offsetBytes, lengthBytes, 'demand', deadlineMs);
  }

  bringAhead(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#ensure(offsetBytes, lengthBytes, 'readahead', this.deadlineMs);
  }

  async #ensure(
    offsetBytes: number,
    lengthBytes: number,
    intent: Intent,
    deadlineMs: number,
  ): Promise<void> {
    const options = { intent, requester: nobody, deadlineMs, exact: true };
    await this.#engine.ensure(this.#content, offsetBytes, lengthBytes, options);
  }

  /** After the mount has ended. What was recalled is written down. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine.close();
    try {
      await this.#contents.close();
    } finally {
      await this.#remote.close();
    }
  }
}

/** The broker of a mount that was taken away a moment ago may still be writing down what it has. */
async function openContents(
  directory: string,
  remote: string,
  {
    onProblem,
    syncData,
    signal,
  }: Pick<TreeOptions, 'onProblem' | 'syncData'> & { readonly signal: AbortSignal },
): Promise<Contents> {
  const more = { limits: { chunkBytes }, ...(syncData === undefined ? {} : { syncData }) };
  for (let waitedMs = 0; ; waitedMs += lockPollMs) {
    try {
      return await Contents.open(directory, remote, onProblem, systemClock, more);
    } catch (error) {
      if (toEbbError(error).code !== 'EBUSY' || waitedMs >= lockWaitMs) throw error;
    }
    await sleep(lockPollMs);
    signal.throwIfAborted();
  }
}

/** A broker that was killed while it made room left a copy that nothing would count, nor ever delete. */
async function countLeftovers(contents: Contents, log: (message: string) => void): Promise<void> {
  const logbook: Pick<Logbook, 'log'> = {
    log: (level, message) => {
      if (level !== 'debug') log(message);
    },
  };
  const startedAtMs = systemClock.nowMs();
  await new Leftovers({ contents, logbook, startedAtMs, startDelayMs: 0 }).done;
}

interface ImageFacts {
  readonly sizeBytes: number;
  readonly version: string;
  readonly mtimeSeconds: number;
}

async function factsOf(
  remote: Remote,
  url: string,
  key: string,
  signal: AbortSignal,
): Promise<ImageFacts> {
  const { kind, sizeBytes, version, mtime } = await remote.stat(key, { signal });
  const name = remoteIdentity(url);
  if (kind !== 'file') throw ebbError('EISDIR', `${name} is no file.`);
  if (sizeBytes === undefined) {
    throw ebbError('EOPNOTSUPP', `The server does not say how large ${name} is: download it.`);
  }
  return { sizeBytes, version: requireVersion(version), mtimeSeconds: mtime?.seconds ?? 0 };
}

/** The node of this version: the one that is there, a new one, or one in the place of another version. */
function nodeFor(catalog: Catalog, key: string, facts: ImageFacts): Node {
  const nowMs = systemClock.nowMs();
  const name = encodeName(key);
  const known = catalog.child(ROOT_NODE_ID, name);
  if (known?.version === facts.version && known.sizeBytes === facts.sizeBytes) return known;
  const wanted: NewNode = {
    parentId: ROOT_NODE_ID,
    name,
    kind: NodeKind.file,
    mode: -1,
    uid: -1,
    gid: -1,
    sizeBytes: facts.sizeBytes,
    mtimeSeconds: facts.mtimeSeconds,
    mtimeNanoseconds: 0,
    exact: true,
    version: facts.version,
    target: null,
    xattrs: null,
    checkedAtMs: nowMs,
  };
  if (known !== undefined) return catalog.replaceNode(known.id, wanted);
  const [made] = catalog.applyListing({
    directoryId: ROOT_NODE_ID,
    listedAtMs: nowMs,
    inserted: [wanted],
    updated: [],
    removedIds: [],
  });
  if (made === undefined) throw ebbError('EIO', 'The catalog did not take the image.');
  return made;
}

function equalBytes(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

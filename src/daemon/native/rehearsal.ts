/**
 * Reads a few files of a tree before anybody waits for one: V8 compiles a function when it is called first, and several
 * hundred first calls made the first read after attaching ten times slower than the next ones. All of it is real: stubs
 * on the tree's file system (in a directory of Ebb's own, under a catalog of their own), events of the tree's groups,
 * the event thread, server, engine, and a remote of the same kind with nothing but zeros. See
 * docs/decisions/0011-a-mount-rehearses.md.
 *
 * This process waits here for its own answers, in a thread of the pool; they end with the rehearsal.
 */
import { closeSync, mkdirSync, open, read, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { rehearsalName } from '../../attach/tree-layout.ts';
import { ebbError } from '../../base/errors.ts';
import { encodeName } from '../../base/name.ts';
import { openSqliteStubCatalog } from '../../catalog/stubs-sqlite/catalog.ts';
import type { NativeGroups, ToMain, ToThread } from '../../native/messages.ts';
import { defaultNativePolicy } from '../../native/policy.ts';
import { NativeServer } from '../../native/server.ts';
import { RecallEngine } from '../../recall/engine.ts';
import { openRemote } from '../../remote/open-remote.ts';
import type { Remote } from '../../remote/remote.ts';
import { openFd, OpenFlag } from '../../sys/fd.ts';
import type { MarkSeal } from '../../tree/mark.ts';
import { NativeStubStore } from '../../tree/stubs/store.ts';
import { optionDefaults } from '../options.ts';
import { directoryNames, fileBytes, fileName, startRehearsalOrigin } from '../rehearsal-origin.ts';
import { rehearsing } from '../rehearsing.ts';
import type { RehearsalSurroundings } from '../rehearsing.ts';
import type { Teardown } from '../teardown.ts';

const pageBytes = 4_096;
/**
 * Reads of one file. Of those at the first open the first is recalled, the others are let through by the thread alone,
 * as is the second open; what is read then is recalled again.
 */
const readOffsets = [
  [0, pageBytes, 2 * pageBytes],
  [fileBytes / 2, fileBytes / 2 + pageBytes],
];
const readAheadMaxBytes = 1024 * 1024;
/** No tree has so many stubs: what the thread says of these means no other file. */
const idsAfter = 2 ** 52;
const mtime = { seconds: 946_684_800, nanoseconds: 0 };

export interface TreeRehearsalOptions extends RehearsalSurroundings {
  readonly remoteKind: string;
  /** The tree's `.ebb` on the private mount: an open directory. */
  readonly privateFd: number;
  /** The same as root can reach it before the tree is shown: there it raises events as for anybody. */
  readonly ebbDirectory: string;
  readonly groups: NativeGroups;
  readonly seal: MarkSeal;
  /** The counter that the thread was given. */
  readonly pending: SharedArrayBuffer;
  readonly post: (message: ToThread) => void;
}

export class TreeRehearsal {
  readonly #options: TreeRehearsalOptions;
  readonly #handles = new Set<string>();
  #server: NativeServer | undefined;

  constructor(options: TreeRehearsalOptions) {
    this.#options = options;
  }

  /** Whether a message of the event thread was about the rehearsal, and has been taken in. */
  takes(message: ToMain): boolean {
    if (!this.#isOurs(message)) return false;
    this.#server?.take(message);
    return true;
  }

  /** Resolves when it is over, however it went, and nothing of it is left. Never rejects. See `rehearsing`. */
  play(): Promise<void> {
    return rehearsing(this.#options, (teardown) => this.#play(teardown));
  }

  #isOurs(message: ToMain): boolean {
    if ('handle' in message) return this.#handles.has(textOf(message.handle));
    return 'fileId' in message && message.fileId > idsAfter;
  }

  async #play(teardown: Teardown): Promise<void> {
    const { directory, privateFd, groups, seal, pending, post } = this.#options;
    mkdirSync(directory, { mode: 0o700 });
    const remote = await this.#openRemote(teardown);
    const catalog = openSqliteStubCatalog(path.join(directory, 'catalog.sqlite'));
    teardown.add('closing the catalog', () => catalog[Symbol.dispose]());
    catalog.continueIdsAfter(idsAfter);
    // It shares poison with the tree's own store. Kept times it must not: that one may be releasing or recalling.
    const store = new NativeStubStore({
      privateFd,
      seal,
      records: catalog,
      onProblem: ignored,
      keepsTimes: false,
    });
    teardown.add('closing the stubs', () => store.abandon());
    const limits = { readAheadMaxBytes };
    const recall = new RecallEngine({ remote, limits });
    teardown.add('ending recalls', () => recall.close());
    const server = new NativeServer({
      groups,
      // The thread goes on when this server closes.
      post: (message) => (message.kind === 'refuse' ? undefined : post(message)),
      store,
      recall,
      policy: { ...defaultNativePolicy, deadlineMs: optionDefaults.deadlineMs },
      pending,
      expectRead: ({ key, version }) => remote.expect?.(key, version),
      onAccesses: ignored,
      onRescan: ignored,
      onProblem: ignored,
    });
    this.#server = server;
    teardown.add('closing the front end', () => server.close());

    const made = `/proc/self/fd/${privateFd}/${rehearsalName}`;
    const remove = (): void => rmSync(made, { recursive: true, force: true });
    remove();
    mkdirSync(made, { mode: 0o700 });
    teardown.add('removing the stubs', remove);
    using stubs = openFd(rehearsalName, OpenFlag.rdonly | OpenFlag.directory, 0, privateFd);
    for (const name of directoryNames) {
      const id = catalog.reserveIds(1);
      const { version } = await remote.stat(`${name}/${fileName}`, callOptions());
      const facts = store.create(stubs.fd, encodeName(name), {
        id,
        key: `${name}/${fileName}`,
        version: version ?? '',
        sizeBytes: fileBytes,
        mtime,
        mode: 0o400,
        uid: undefined,
        gid: undefined,
        xattrs: undefined,
      });
      this.#handles.add(textOf(facts.handle));
      teardown.add('forgetting a stub', () => server.forget(id));
      catalog.insert([{ ...facts, lost: false, accessedAtMs: 1 }]);
      const stub = path.join(this.#options.ebbDirectory, rehearsalName, name);
      for (const offsets of readOffsets) await readStub(stub, offsets);
    }
  }

  /** As the tree's own: other code reads from a directory than from a web server. */
  async #openRemote(teardown: Teardown): Promise<Remote> {
    const limits = { ...optionDefaults, retries: 0, proxy: '' };
    const open = async (url: string): Promise<Remote> => {
      const remote = await openRemote({ ...limits, url });
      teardown.add('closing the remote', () => remote.close());
      return remote;
    };
    if (this.#options.remoteKind === 'http') {
      const origin = await startRehearsalOrigin();
      teardown.add('closing the origin', () => origin[Symbol.asyncDispose]());
      return await open(origin.url);
    }
    const root = path.join(this.#options.directory, 'origin');
    for (const name of directoryNames) {
      const file = path.join(root, name, fileName);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, '');
      truncateSync(file, fileBytes);
    }
    return await open(root);
  }
}

async function readStub(file: string, offsets: readonly number[]): Promise<void> {
  const fd = await promisify(open)(file, 'r');
  try {
    const bytes = Buffer.alloc(pageBytes);
    for (const offset of offsets) {
      const { bytesRead } = await promisify(read)(fd, bytes, 0, pageBytes, offset);
      if (bytesRead !== pageBytes || bytes.some((byte) => byte !== 0)) {
        throw ebbError('EIO', 'What was read is not what the remote has.');
      }
    }
  } finally {
    closeSync(fd);
  }
}

const callOptions = () => ({ signal: AbortSignal.timeout(optionDefaults.deadlineMs) });
const ignored = (): void => undefined;
const textOf = (handle: Uint8Array): string => Buffer.from(handle).toString('latin1');

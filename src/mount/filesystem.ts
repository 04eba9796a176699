/**
 * The mount front end: a read-only view of the remote tree, answered by one thread.
 *
 * What the catalog and resident content can answer is answered at once; the rest becomes a question to the main
 * thread (messages.ts) and the request is finished when the answer comes. A node id names one version of one file
 * for ever, so cached pages never go stale: opens always keep the page cache, and a changed file appears as a new
 * node behind the same name (ESTALE from OPEN makes the kernel look the name up again).
 */
import { Errno } from '../base/errno.ts';
import { toEbbError } from '../base/errors.ts';
import { NodeKind } from '../catalog/catalog.ts';
import type { Node } from '../catalog/catalog.ts';
import { FOPEN_KEEP_CACHE, FOPEN_NOFLUSH, FOPEN_PASSTHROUGH } from '../fuse/constants.ts';
import type { Call, FileSystem } from '../fuse/filesystem.ts';
import { isTransferVersion } from '../recall/namespace/reconcile.ts';
import type { Requester } from '../recall/recall.ts';
import { ask, requesterOf } from './asking.ts';
import { attributesOf } from './attributes.ts';
import { immediately } from './answerer.ts';
import type { Answerer } from './answerer.ts';
import type { Notice } from './bridge.ts';
import { DirectoryReader } from './directory-reader.ts';
import { DirectoryScans } from './directory-scans.ts';
import { ListingReaders } from './listing-readers.ts';
import { Names } from './names.ts';
import { OpenFiles } from './open-files.ts';
import type { OpenContent, OpenFile } from './open-files.ts';
import type { MountServices } from './services.ts';
import { ScanLog } from './scan-log.ts';
import { serveLseek, serveListxattr, serveXattr } from './small-answers.ts';

/** open(2) access mode bits and O_TRUNC, O_CREAT of asm-generic/fcntl.h. */
const accessModeMask = 3;
const truncateFlag = 0o1000;
/** Reads this near to where a stream was are still sequential: the kernel's read-ahead runs in parallel. */
const sequentialSlackBytes = 8 * 1024 * 1024;

export class MountFileSystem implements FileSystem {
  readonly #services: MountServices;
  readonly #files: OpenFiles;
  readonly #directories: DirectoryReader;
  readonly #names: Names;
  readonly #readers: ListingReaders;
  #accesses = new Map<number, number>();

  constructor(services: MountServices) {
    this.#services = services;
    this.#files = new OpenFiles({
      ...services,
      onDropped: (nodeId) => services.bridge.tell({ kind: 'dropped', nodeId }),
    });
    const {
      view,
      defaults,
      generations,
      predecessors = 0,
      scanLog = new ScanLog(undefined),
    } = services;
    const scans = new DirectoryScans({ predecessors, log: scanLog });
    this.#directories = new DirectoryReader(view, defaults, generations, scans);
    this.#readers = new ListingReaders(view.ttlMs, services.nowMs);
    this.#names = new Names(services, this.#readers);
  }

  get openCount(): number {
    return this.#files.openCount;
  }

  // --- names ---------------------------------------------------------------------------------------------------

  lookup(call: Call, parentId: number, name: Uint8Array): void {
    this.#names.lookup(call, parentId, name);
  }

  getattr(call: Call, nodeId: number): void {
    const { view, defaults } = this.#services;
    const node = view.node(nodeId);
    if (node === undefined) return void call.error(Errno.ESTALE);
    this.#names.exactly(call, node, (answer, exact) =>
      answer.attributes(attributesOf(exact, defaults), view.nodeTimeoutMs(exact)),
    );
  }

  readlink(call: Call, nodeId: number): void {
    const target = this.#services.view.node(nodeId)?.target;
    if (target === undefined || target === null) return void call.error(Errno.EINVAL);
    call.data(target);
  }

  // --- directories ---------------------------------------------------------------------------------------------

  opendir(call: Call, nodeId: number): void {
    const { view, walk, bridge } = this.#services;
    let directory = view.node(nodeId);
    if (directory?.listedAtMs === 0) {
      // Listed ahead, maybe, and this thread has not heard of it.
      bridge.drain();
      directory = view.node(nodeId);
    }
    if (directory === undefined || !view.isNamed(directory)) return void call.error(Errno.ESTALE);
    const who = requesterOf(call);
    if (view.isListingFresh(directory)) {
      walk.listed(directory, who, false);
      return this.#openDirectory(immediately(call), directory, who);
    }
    const question = { kind: 'list', directoryId: nodeId } as const;
    ask(this.#services, immediately(call), call, who, question, (later, reply) => {
      if (reply.errno !== 0) return void later.error(reply.errno);
      walk.listed(directory, who, true);
      this.#openDirectory(later, view.node(nodeId) ?? directory, who);
    });
  }

  #openDirectory(answer: Answerer, directory: Node, who: Requester): void {
    // Nothing is left when the remote could not be asked, and with a time to live of 0.
    const freshMs = this.#services.view.remainingMs(directory.listedAtMs);
    this.#readers.opened(directory.id, who.pid, freshMs);
    answer.opened(this.#directories.open(), this.#directories.openFlags(directory.id));
  }

  readdir(call: Call, nodeId: number, handle: number, offset: number, plus: boolean): void {
    const reader = this.#readers.find(nodeId, call.pid);
    this.#directories.fill(call, nodeId, handle, offset, plus, reader);
    call.directoryDone();
  }

  releasedir(call: Call, _nodeId: number, handle: number): void {
    this.#directories.close(handle);
    call.ok();
  }

  // --- files ---------------------------------------------------------------------------------------------------

  open(call: Call, nodeId: number, flags: number): void {
    if ((flags & accessModeMask) !== 0 || (flags & truncateFlag) !== 0) {
      return void call.error(Errno.EROFS);
    }
    if (call.resent) this.#files.openedAgain(call.unique);
    this.#open(immediately(call), call, requesterOf(call), nodeId, false);
  }

  #open(
    answer: Answerer,
    call: Call | undefined,
    who: Requester,
    nodeId: number,
    asked: boolean,
  ): void {
    const { view, walk, bridge } = this.#services;
    // What main prefetched may lie unread in the port: looking costs a microsecond, asking a round trip.
    if (!asked && this.#files.content(nodeId) === undefined) bridge.drain();
    const node = view.node(nodeId);
    if (node === undefined || !view.isNamed(node)) return void answer.error(Errno.ESTALE);
    if (node.kind !== NodeKind.file) return void answer.error(Errno.EISDIR);
    const content = this.#files.isQuiesced(nodeId) ? undefined : this.#files.content(nodeId);
    // What is missing of a transfer version can never be recalled: main has to fetch the whole anew.
    const whole = content?.residency.complete === true || !isTransferVersion(node.version);
    const trusted = asked || (whole && view.isVersionFresh(node));
    if (content !== undefined && trusted) {
      // A walker goes on over what was prefetched for it; programs over what is here are left alone.
      if (content.isPrefetched || !content.residency.complete) walk.opened(node, who);
      content.isPrefetched = false;
      this.#openContent(answer, content);
      return;
    }
    if (asked) return void answer.error(Errno.EAGAIN);
    walk.opened(node, who);
    ask(this.#services, answer, call, who, { kind: 'open', nodeId }, (later, reply) => {
      if (reply.errno !== 0) return void later.error(reply.errno);
      if (reply.opened !== undefined) {
        this.#files.adopt(nodeId, reply.opened);
      }
      this.#open(later, undefined, who, nodeId, true);
    });
  }

  #openContent(answer: Answerer, content: OpenContent): void {
    let file: OpenFile;
    try {
      file = this.#files.open(content, this.#services.passthrough, answer.unique);
    } catch (error) {
      return void answer.error(toEbbError(error).errno);
    }
    const flags =
      file.mode === 'passthrough'
        ? FOPEN_PASSTHROUGH | FOPEN_NOFLUSH
        : FOPEN_KEEP_CACHE | FOPEN_NOFLUSH;
    let wanted = false;
    try {
      wanted = answer.opened(file.fileHandle, flags, file.backingId);
    } finally {
      if (!wanted) this.#files.release(file.fileHandle);
    }
  }

  read(call: Call, nodeId: number, fileHandle: number, offset: number, sizeBytes: number): void {
    const file = this.#files.file(fileHandle);
    if (file === undefined || file.nodeId !== nodeId) return void call.error(Errno.EBADF);
    const content = this.#files.content(nodeId);
    const fileBytes = content?.residency.sizeBytes ?? this.#services.view.node(nodeId)?.sizeBytes;
    if (fileBytes === undefined) return void call.error(Errno.ESTALE);
    const length = Math.min(sizeBytes, Math.max(0, fileBytes - offset));
    if (length === 0) return void call.data(noBytes);
    const sequential = Math.abs(offset - file.nextOffset) <= sequentialSlackBytes;
    file.nextOffset = Math.max(sequential ? file.nextOffset : 0, offset + length);
    const { bridge, answers } = this.#services;
    const about = { nodeId, streamId: fileHandle, offsetBytes: offset, sizeBytes: length };
    if (content?.residency.has(offset, length) === true) {
      answers.dataFromFile(call.defer(), content.descriptor.fd, offset, length, length);
      if (sequential && !content.residency.complete) {
        bridge.tell({ kind: 'consumed', ...about, requester: requesterOf(call) });
      }
      return;
    }
    if (bridge.isFull) return void call.error(Errno.EAGAIN);
    // Opened with a predecessor: the next READ finds the content here.
    if (content === undefined) bridge.tell({ kind: 'missing', nodeId });
    const requester = requesterOf(call);
    bridge.tell({ kind: 'read', ...call.defer(), ...about, requester });
  }

  release(call: Call, nodeId: number, fileHandle: number): void {
    if (this.#files.file(fileHandle) !== undefined) {
      if (this.#files.content(nodeId)?.residency.complete !== true) {
        this.#services.bridge.tell({ kind: 'endStream', streamId: fileHandle });
      }
      this.#files.release(fileHandle);
      this.#accesses.set(nodeId, this.#services.nowMs());
      if (this.#accesses.size >= accessesBatch) this.#reportAccesses();
    }
    call.ok();
  }

  lseek(call: Call, nodeId: number, _fileHandle: number, offset: number, whence: number): void {
    serveLseek(call, this.#services.view.node(nodeId), offset, whence);
  }

  statfs(call: Call): void {
    call.statfs(this.#services.statistics());
  }

  getxattr(call: Call, nodeId: number, name: Uint8Array, sizeBytes: number): void {
    const { view } = this.#services;
    const residency = this.#files.content(nodeId)?.residency;
    serveXattr(call, view, nodeId, name, sizeBytes, residency?.residentBytes);
  }

  listxattr(call: Call, nodeId: number, sizeBytes: number): void {
    serveListxattr(call, this.#services.view.node(nodeId), sizeBytes);
  }

  // --- the other thread ----------------------------------------------------------------------------------------

  interrupt(unique: number): void {
    const { bridge } = this.#services;
    if (!bridge.interrupt(unique)) bridge.tell({ kind: 'interruptRead', unique });
  }

  wakeup(): void {
    const { bridge } = this.#services;
    bridge.drain();
    const failure = bridge.takeFailure();
    if (failure !== undefined) throw failure;
  }

  notice(notice: Notice): void {
    const { view, bridge } = this.#services;
    switch (notice.kind) {
      case 'offer':
        this.#files.adopt(notice.nodeId, notice.opened).isPrefetched = true;
        return;
      case 'factsChanged':
        view.forget(notice.nodeId);
        return;
      case 'directoryChanged':
        view.forgetListed(notice.directoryId);
        if (notice.namesChanged) this.#directories.changed(notice.directoryId);
        this.#services.walk.arrived(notice.directoryId);
        return;
      case 'quiesce': {
        const openCount = this.#files.quiesce(notice.nodeId);
        bridge.tell({ kind: 'quiesced', nodeId: notice.nodeId, openCount });
        return;
      }
      case 'resume':
        this.#files.resume(notice.nodeId);
        return;
      case 'reportAccesses':
        this.#reportAccesses();
    }
  }

  destroy(): void {
    this.#files.closeAll();
    this.#services.onDestroy?.();
  }

  #reportAccesses(): void {
    if (this.#accesses.size === 0) return;
    this.#services.bridge.tell({ kind: 'accessed', accesses: [...this.#accesses] });
    this.#accesses = new Map();
  }
}

const noBytes = new Uint8Array(0);
const accessesBatch = 256;

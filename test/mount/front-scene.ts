/** The FUSE thread's file system between a fake kernel and a main thread that the test plays. */
import assert from 'node:assert/strict';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import type { NewNode, Node } from '../../src/catalog/catalog.ts';
import { MemoryCatalog } from '../../src/catalog/memory/catalog.ts';
import { Bridge } from '../../src/mount/bridge.ts';
import { MountFileSystem } from '../../src/mount/filesystem.ts';
import { Generations } from '../../src/mount/generations.ts';
import type { Opened, Question, ToMain, ToThread } from '../../src/mount/messages.ts';
import { NodeView } from '../../src/mount/node-view.ts';
import { WalkWatcher } from '../../src/mount/walk-watcher.ts';
import { Residency } from '../../src/tree/residency.ts';
import { FakeKernel } from './fake-call.ts';
import { listRoot } from './rows.ts';

const defaults = { fileMode: 0o444, directoryMode: 0o555, uid: 0, gid: 0, startedAtSeconds: 1 };
export const readOnly = 0;
export const generationKey = new Uint8Array(16).fill(7);

/** One file system object, the kernel that calls it and the main thread that it asks. */
export class Scene implements Disposable {
  readonly catalog = new MemoryCatalog();
  readonly kernel = new FakeKernel();
  readonly directory = mkdtempSync(path.join(tmpdir(), 'ebb-front-'));
  readonly openCount = new Int32Array(1);
  readonly staleHandles = new Int32Array(1);
  readonly closedBackings: number[] = [];
  readonly fileSystem: MountFileSystem;
  /** What registering a backing file answers. */
  backing = 1;
  nowMs = 1_000_000;
  readonly #channel = new MessageChannel();

  constructor(ttlMs = 60_000) {
    const view = new NodeView(this.catalog, ttlMs, () => this.nowMs);
    const bridge = new Bridge(this.#channel.port2, (notice) => this.fileSystem.notice(notice));
    this.fileSystem = new MountFileSystem({
      view,
      bridge,
      answers: this.kernel,
      walk: new WalkWatcher(view, bridge, () => this.nowMs),
      defaults,
      generations: new Generations(generationKey),
      passthrough: true,
      openCount: this.openCount,
      staleHandles: this.staleHandles,
      nowMs: () => this.nowMs,
      openBacking: () => this.backing,
      closeBacking: (id) => void this.closedBackings.push(id),
      statistics: () => {
        throw new Error('not asked here');
      },
    });
  }

  list(rows: readonly NewNode[]): Node[] {
    return listRoot(this.catalog, this.nowMs, rows);
  }

  /** What the thread told main since the last time, without guesses. */
  told(): ToMain[] {
    const all: ToMain[] = [];
    for (;;) {
      const one = receiveMessageOnPort(this.#channel.port1);
      if (one === undefined) return all;
      const message = one.message as ToMain;
      if (message.kind !== 'prefetch') all.push(message);
    }
  }

  /** The one question that was asked. */
  question(kind: Question['kind']): Question & { readonly id: number } {
    const questions = this.told().filter(
      (message) => 'id' in message && message.kind !== 'interrupted',
    );
    assert.equal(questions.length, 1, JSON.stringify(questions));
    const [question] = questions;
    assert.equal(question?.kind, kind);
    return question as Question & { readonly id: number };
  }

  post(...messages: ToThread[]): void {
    for (const message of messages) this.#channel.port1.postMessage(message);
    this.fileSystem.wakeup();
  }

  answer(question: { readonly id: number }, errno = 0, opened?: Opened): void {
    if (opened === undefined) this.post({ kind: 'answer', id: question.id, errno });
    else this.post({ kind: 'answer', id: question.id, errno: 0, opened });
  }

  /** A local file of 1000 bytes `x`. */
  opened(isComplete = true): Opened {
    const file = path.join(this.directory, 'content');
    writeFileSync(file, Buffer.alloc(1_000, 'x'));
    const residency = Residency.create(1_000);
    if (isComplete) residency.markResident(0, 1);
    residency.noteRecorded();
    return { residency: residency.buffer, descriptor: openSync(file, 'r') };
  }

  /** Opens a node for which main must be asked. */
  open(node: Node, opened = this.opened()): { fileHandle: number; flags: number } {
    const call = this.kernel.call();
    this.fileSystem.open(call, node.id, readOnly);
    this.answer(this.question('open'), 0, opened);
    return call.expect('opened');
  }

  [Symbol.dispose](): void {
    this.fileSystem.destroy();
    this.#channel.port1.close();
    this.#channel.port2.close();
    rmSync(this.directory, { recursive: true });
  }
}

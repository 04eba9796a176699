/** The journal of what was read and is not recorded. The group is one end of a socket, the test is the kernel. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Group } from '../../src/fanotify/group.ts';
import type { EventTrouble, IncomingEvent } from '../../src/fanotify/event-reader.ts';
import {
  ChangeJournal,
  changeJournalBytes,
  strikeOut,
  strikeOutBut,
  strikeOutEvent,
} from '../../src/native/change-journal.ts';
import type { JournalPlace } from '../../src/native/change-journal.ts';
import { setNonblocking } from '../../src/sys/fd.ts';
import { write } from '../../src/sys/io.ts';
import { mapSharedFile } from '../../src/sys/map.ts';
import { createMemoryFile } from '../../src/sys/memory-file.ts';
import { socketPair } from '../../src/sys/socket.ts';
import * as golden from '../fanotify/golden.ts';

const modified = golden.bytesOf(golden.modified);
/** Read together. A read has room for as many. */
const batch = Math.floor(4_096 / modified.length);
/** Reads whose events do not fit. */
const tooMany = changeJournalBytes / modified.length / batch;
const blockBytes = 32_768;

/** An event of the kernel's whose inode is `file`. */
function eventOf(file: number): Uint8Array {
  const bytes = modified.slice();
  new DataView(bytes.buffer).setUint32(bytes.length - 8, file, true);
  return bytes;
}

class Scene implements Disposable {
  readonly troubles: EventTrouble[] = [];
  readonly places: JournalPlace[] = [];
  /** Where the event of a file is, by file. */
  readonly eventAtBytes = new Map<number, number | undefined>();
  readonly #owned = new DisposableStack();
  readonly #memory = this.#owned.use(createMemoryFile('changes'));
  readonly #ends = socketPair().map((end) => this.#owned.use(end));
  readonly #group: Group;
  #files: number[] = [];
  #journal: ChangeJournal;

  constructor() {
    for (const end of this.#ends) setNonblocking(end.fd, true);
    this.#group = Group.borrow(this.#ends[0]?.fd ?? -1, 'notification');
    this.#journal = this.#open();
  }

  #open(): ChangeJournal {
    const memory = mapSharedFile(this.#memory.fd, changeJournalBytes);
    return new ChangeJournal(
      this.#group,
      memory,
      (trouble) => this.troubles.push(trouble),
      (place) => this.places.push(place),
    );
  }

  #handle = (event: IncomingEvent): void => {
    const object = event.fids().find(({ kind }) => kind === 'object');
    if (object === undefined) return;
    const { buffer, byteOffset } = object.handle.bytes;
    const file = new DataView(buffer, byteOffset).getUint32(0, true);
    this.#files.push(file);
    this.eventAtBytes.set(file, this.#journal.eventAtBytes);
  };

  /** Files whose events, read together, were handled. */
  read(...files: number[]): number[] {
    write(this.#ends[1]?.fd ?? -1, Buffer.concat(files.map(eventOf)));
    while (this.#journal.fill() > 0) this.#journal.handleAll(this.#handle, () => undefined);
    return this.#handled();
  }

  /** As the next daemon. */
  succeed(): number[] {
    this.#journal = this.#open();
    this.#journal.takeOver(this.#handle, () => undefined);
    return this.#handled();
  }

  strikeOut(place: JournalPlace | undefined): void {
    assert.ok(place);
    strikeOut(this.#memory.fd, place);
  }

  /** All but the events of these files, of what was read together. */
  strikeOutBut(place: JournalPlace | undefined, files: readonly number[]): void {
    assert.ok(place);
    const left = files.map((file) => this.eventAtBytes.get(file) ?? -1);
    strikeOutBut(this.#memory.fd, place, left);
  }

  strikeOutEvent(file: number): void {
    strikeOutEvent(this.#memory.fd, this.eventAtBytes.get(file) ?? -1);
  }

  scribble(atBytes: number, bytes: Uint8Array): void {
    new Uint8Array(mapSharedFile(this.#memory.fd, changeJournalBytes)).set(bytes, atBytes);
  }

  #handled(): number[] {
    const files = this.#files;
    this.#files = [];
    return files;
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}

test('what was read and is not recorded is handled by each successor; what is recorded by none', () => {
  using scene = new Scene();
  assert.deepEqual(scene.succeed(), []);
  for (const file of [1, 2, 3, 4]) assert.deepEqual(scene.read(file), [file]);
  assert.equal(scene.places.length, 4);
  scene.strikeOut(scene.places[1]);
  scene.strikeOut(scene.places[2]);
  for (const _successor of [1, 2]) {
    scene.places.length = 0;
    assert.deepEqual(scene.succeed(), [1, 4]);
  }
  const left = scene.places.splice(0);
  // New ones do not touch what is left.
  assert.deepEqual(scene.read(5), [5]);
  scene.strikeOut(left[0]);
  assert.deepEqual(scene.succeed(), [4, 5]);
  for (const place of scene.places.splice(0)) scene.strikeOut(place);
  assert.deepEqual(scene.succeed(), []);
  assert.deepEqual(scene.troubles, []);
});

test('of what was read together, what cannot be recorded stays, and nothing else', () => {
  for (const left of [[], [1], [2], [5], [1, 2], [2, 4], [4, 5], [1, 3, 5], [1, 2, 3, 4, 5]]) {
    using scene = new Scene();
    scene.read(7);
    scene.strikeOut(scene.places.pop());
    scene.read(1, 2, 3, 4, 5);
    scene.strikeOutBut(scene.places.pop(), left);
    assert.deepEqual(scene.succeed(), left);
    for (const file of left) scene.strikeOutEvent(file);
    assert.deepEqual(scene.succeed(), []);
    assert.deepEqual(scene.read(6), [6]);
    assert.equal(scene.eventAtBytes.get(6), 0, 'its memory is used again');
    assert.deepEqual(scene.succeed(), [6]);
    assert.deepEqual(scene.troubles, []);
  }
});

test('memory is used again when it is recorded; what no longer fits is handled, and not kept', () => {
  using scene = new Scene();
  for (let file = 1; file <= 1_000; file += 1) {
    assert.deepEqual(scene.read(file), [file]);
    assert.ok((scene.places[0]?.atBytes ?? blockBytes) < blockBytes);
    scene.strikeOut(scene.places.pop());
  }
  assert.deepEqual(scene.succeed(), []);
  const kept: number[] = [];
  for (let first = 1; first <= tooMany * batch; first += batch) {
    const files = Array.from({ length: batch }, (_unused, index) => first + index);
    const before = scene.places.length;
    assert.deepEqual(scene.read(...files), files);
    if (scene.places.length > before) kept.push(...files);
  }
  const share = kept.length / (tooMany * batch);
  assert.ok(share > 0.5 && share < 1, `${share}`);
  const [first] = scene.places;
  const ofFirstBlock = scene.places.filter(({ atBytes }) => atBytes < blockBytes);
  assert.equal(first?.atBytes, 0);
  for (const place of ofFirstBlock) scene.strikeOut(place);
  scene.places.length = 0;
  assert.deepEqual(scene.read(7), [7]);
  assert.equal(scene.places.length, 1, 'it is kept again');
  assert.deepEqual(scene.succeed(), [7, ...kept.slice(ofFirstBlock.length * batch)]);
  assert.deepEqual(scene.troubles, []);
});

test('what nobody can read is said once, and the memory used again', () => {
  for (const wrong of ['ffffffff03001800', '0100000003001800', '6400000009001800']) {
    using scene = new Scene();
    scene.read(1);
    scene.scribble(scene.places[0]?.lengthBytes ?? 0, golden.bytesOf(wrong));
    assert.deepEqual(scene.succeed(), [1], wrong);
    assert.equal(scene.troubles.length, 1);
    assert.deepEqual(scene.succeed(), [1]);
    assert.equal(scene.troubles.length, 1);
  }
});

test('a daemon that was killed as it wiped a block leaves nothing that is taken for events', () => {
  using scene = new Scene();
  // Wiped from its beginning, up to where the second event will end.
  scene.scribble(2 * modified.length, Buffer.concat([eventOf(8), eventOf(9)]));
  assert.deepEqual(scene.succeed(), []);
  for (const file of [1, 2]) assert.deepEqual(scene.read(file), [file]);
  assert.deepEqual(scene.succeed(), [1, 2]);
  assert.deepEqual(scene.troubles, []);
});

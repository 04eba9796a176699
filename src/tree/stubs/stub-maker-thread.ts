/** Entry point of the thread that makes stubs (see stub-maker.ts): one request after the other, until told to end. */
import { parentPort, workerData } from 'node:worker_threads';
import { toEbbError } from '../../base/errors.ts';
import type { ErrnoCode } from '../../base/errno.ts';
import { sameTime } from '../../sys/stat.ts';
import type { FileTime } from '../../sys/stat.ts';
import type { MarkSeal } from '../mark.ts';
import { createStub } from './create-stub.ts';
import { PoisonFiles } from './poison.ts';
import type { NewStub } from './stub-store.ts';

/** What stub-maker.ts passes as worker data. The descriptors are the store's. */
export interface MakerStart {
  readonly seal: MarkSeal;
  /** Undefined: stubs are holes. */
  readonly poison: { readonly directoryFd: number; readonly blockBytes: number } | undefined;
  readonly chunkBytes: number | undefined;
}

export interface NamedStub {
  /** Raw bytes. */
  readonly name: Uint8Array;
  readonly stub: NewStub;
}

export interface MakeRequest {
  readonly number: number;
  readonly directoryFd: number;
  readonly stubs: readonly NamedStub[];
}

/**
 * The inode's encoded handle; with the time it has, where the file system could not keep the one that was asked for;
 * or what `createStub` threw.
 */
export type Made =
  | Uint8Array
  | { readonly handle: Uint8Array; readonly mtime: FileTime }
  | { readonly code: ErrnoCode; readonly message: string };

export interface MakeAnswer {
  readonly number: number;
  /** In the order of the request. */
  readonly made: readonly Made[];
}

function main({ seal, poison: place, chunkBytes }: MakerStart): void {
  const port = parentPort;
  if (port === null) throw new Error('This file is the entry of a thread.');
  const poison = place && new PoisonFiles(place.directoryFd, place.blockBytes);
  const make = (directoryFd: number, { name, stub }: NamedStub): Made => {
    try {
      const facts = createStub(directoryFd, name, stub, { seal, poison, chunkBytes });
      const { handle, mtimeSeconds: seconds, mtimeNanoseconds: nanoseconds } = facts;
      const mtime = { seconds, nanoseconds };
      return sameTime(mtime, stub.mtime) ? handle : { handle, mtime };
    } catch (error) {
      const { code, message } = toEbbError(error);
      return { code, message };
    }
  };
  port.on('message', (request: MakeRequest | 'end') => {
    if (request === 'end') {
      poison?.[Symbol.dispose]();
      port.close();
      return;
    }
    const { number, directoryFd, stubs } = request;
    const answer: MakeAnswer = { number, made: stubs.map((stub) => make(directoryFd, stub)) };
    port.postMessage(answer);
  });
}

main(workerData as MakerStart);

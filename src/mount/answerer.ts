/** One shape for answering a request now (its `Call`) or later (its `DeferredCall` through the replier). */
import type { Attributes, Call, DeferredCall, Entry } from '../fuse/filesystem.ts';

/** The subset of the replier that the mount uses (fuse/replier.ts). */
export interface DeferredAnswers {
  error(call: DeferredCall, errno: number): boolean;
  entry(call: DeferredCall, entry: Entry): boolean;
  attributes(call: DeferredCall, attributes: Attributes, timeoutMs: number): boolean;
  opened(call: DeferredCall, fileHandle: number, openFlags: number, backingId?: number): boolean;
  dataFromFile(
    call: DeferredCall,
    descriptor: number,
    offset: number,
    lengthBytes: number,
    minimumBytes: number,
  ): boolean;
}

export interface Answerer {
  readonly unique: number;
  error(errno: number): boolean;
  entry(entry: Entry): boolean;
  /** The name does not exist, and the kernel may remember that. */
  negative(timeoutMs: number): boolean;
  attributes(attributes: Attributes, timeoutMs: number): boolean;
  opened(fileHandle: number, openFlags: number, backingId?: number): boolean;
}

const noAttributes: Attributes = {
  ino: 0,
  sizeBytes: 0,
  blocks: 0,
  atimeSeconds: 0,
  atimeNanoseconds: 0,
  mtimeSeconds: 0,
  mtimeNanoseconds: 0,
  ctimeSeconds: 0,
  ctimeNanoseconds: 0,
  mode: 0,
  nlink: 0,
  uid: 0,
  gid: 0,
  rdev: 0,
  blockSizeBytes: 0,
};

function negativeEntry(timeoutMs: number): Entry {
  return {
    nodeId: 0,
    generation: 0,
    entryTimeoutMs: timeoutMs,
    attributeTimeoutMs: 0,
    attributes: noAttributes,
  };
}

/** Answers while the request is being handled. */
export function immediately(call: Call): Answerer {
  return {
    unique: call.unique,
    error: (errno) => call.error(errno),
    entry: (entry) => call.entry(entry),
    negative: (timeoutMs) => call.entry(negativeEntry(timeoutMs)),
    attributes: (attributes, timeoutMs) => call.attributes(attributes, timeoutMs),
    opened: (handle, flags, backingId) => call.opened(handle, flags, backingId),
  };
}

/** Answers a request that was deferred, in a later turn. */
export function later(answers: DeferredAnswers, call: DeferredCall): Answerer {
  return {
    unique: call.unique,
    error: (errno) => answers.error(call, errno),
    entry: (entry) => answers.entry(call, entry),
    negative: (timeoutMs) => answers.entry(call, negativeEntry(timeoutMs)),
    attributes: (attributes, timeoutMs) => answers.attributes(call, attributes, timeoutMs),
    opened: (handle, flags, backingId) => answers.opened(call, handle, flags, backingId),
  };
}

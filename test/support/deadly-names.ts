/**
 * Loaded into every process of an Ebb (`NODE_OPTIONS=--import`): a daemon that is asked about a name of these dies of
 * it, as of a bug. Nothing in Ebb knows of this file.
 */
import { MountFileSystem } from '../../src/mount/filesystem.ts';
import { Namespace } from '../../src/recall/namespace/namespace.ts';

/** Kills while the FUSE thread handles the request, from outside as far as anybody can tell. */
export const deadlyInThread = 'deadly-in-thread';
/** An exception in the main thread, a moment after it was asked. */
export const deadlyInMain = 'deadly-in-main';
/** The FUSE thread never comes back. */
export const endless = 'endless';

// oxlint-disable-next-line typescript/unbound-method -- called with its own object below
const { lookup } = MountFileSystem.prototype;
MountFileSystem.prototype.lookup = function deadlyLookup(call, parentId, name) {
  const text = Buffer.from(name).toString();
  if (text === deadlyInThread) process.kill(process.pid, 'SIGKILL');
  if (text === endless) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  lookup.call(this, call, parentId, name);
};

// oxlint-disable-next-line typescript/unbound-method -- called with its own object below
const { listFor } = Namespace.prototype;
Namespace.prototype.listFor = function deadlyListing(directoryId, name, signal) {
  if (Buffer.from(name).toString() === deadlyInMain) {
    setImmediate(() => {
      throw new Error('a bug, for a test');
    });
  }
  return listFor.call(this, directoryId, name, signal);
};

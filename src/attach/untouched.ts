/** Whether a file in the staging directory is what Ebb made, and nothing in it is a user's: then it may be deleted. */
import { StubChange } from '../base/stub-facts.ts';
import { toEbbError } from '../base/errors.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import { encodedHandleAt } from '../sys/handle.ts';
import { tryLease } from '../sys/lease.ts';
import type { StubFile, StubStore } from '../tree/stubs/stub-store.ts';
import type { Place } from './place.ts';

/**
 * At `at` is this file, and nothing in it is a user's. Writers of what is not all here were recorded before they were
 * let in. Of what is, they are noticed afterwards: one may have it open and write later, and while no daemon
 * ran nobody noticed.
 */
export function isAsItCame(store: StubStore, at: Place, file: StubFile): boolean {
  const isFile = Buffer.compare(encodedHandleAt(at.fd, at.name), file.handle) === 0;
  if (!isFile || file.change !== StubChange.clean) return false;
  if (!file.residency.complete) return true;
  return store.unchanged(file) && hasNoWriter(store, at, file);
}

function hasNoWriter(store: StubStore, at: Place, file: StubFile): boolean {
  const flags = OpenFlag.rdonly | OpenFlag.nofollow | OpenFlag.nonblock | OpenFlag.noatime;
  try {
    using fd = openFd(at.name, flags, 0, at.fd);
    // The lease ends with its descriptor.
    return store.closeOwn(file) && tryLease(fd.fd, 'read');
  } catch (error) {
    // Somebody has a lease on it, to write.
    if (toEbbError(error).code === 'EAGAIN') return false;
    throw error;
  }
}

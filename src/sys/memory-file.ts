/** memfd_create(2): a file that lives in memory, for as long as somebody holds a descriptor of it. */
import { OwnedFd } from './fd.ts';
import { bind, cString, lazily, orThrow } from './ffi.ts';

const MFD_CLOEXEC = 1;

const native = lazily(() => ({
  memfd_create: bind<(name: Uint8Array, flags: number) => number>(
    'int memfd_create(const void *name, unsigned int flags)',
  ),
}));

/** Empty, readable and writable, close-on-exec. `name` is only shown in /proc. Throws EMFILE, ENFILE, ENOMEM. */
export function createMemoryFile(name: string): OwnedFd {
  return new OwnedFd(orThrow(native().memfd_create(cString(name), MFD_CLOEXEC), 'memfd_create'));
}

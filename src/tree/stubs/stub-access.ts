/** Opening stubs by handle, through the private mount. */
import { assert } from '../../base/assert.ts';
import { EbbError, ebbError } from '../../base/errors.ts';
import { OpenFlag } from '../../sys/fd.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { decodeHandle, openByHandle } from '../../sys/handle.ts';
import { fileStatus } from '../../sys/stat.ts';
import type { FileStatus } from '../../sys/stat.ts';
import { FilesystemMagic, filesystemStatus } from '../../sys/statfs.ts';
import { openXfsHandle, xfsHandleFrom, xfsHandleOf } from '../../sys/xfs-handle.ts';

/**
 * O_NONBLOCK: the open of a file that somebody has a lease on fails with EAGAIN instead of waiting. O_NOATIME: what
 * Ebb does is no access.
 */
const openFlags = OpenFlag.nonblock | OpenFlag.noatime;

export class StubAccess {
  readonly rootFd: number;
  readonly blockBytes: number;
  /** Stubs can be made of reflinks (xfs, btrfs). */
  readonly hasReflinks: boolean;
  /** Any XFS handle of this file system; undefined on others. */
  readonly #xfsHandle: Uint8Array | undefined;

  /** `rootFd`: an open directory (not O_PATH) on the private mount. */
  constructor(rootFd: number) {
    const { magic, blockSizeBytes } = filesystemStatus(rootFd);
    this.rootFd = rootFd;
    this.blockBytes = blockSizeBytes;
    this.hasReflinks = magic === FilesystemMagic.xfs || magic === FilesystemMagic.btrfs;
    this.#xfsHandle = magic === FilesystemMagic.xfs ? xfsHandleOf(rootFd) : undefined;
  }

  /** What is written through `openForWriting` moves neither mtime nor ctime. */
  get isInvisible(): boolean {
    return this.#xfsHandle !== undefined;
  }

  /** Throws ESTALE when the inode is gone, EAGAIN while somebody has a lease on it, EMFILE. */
  openForWriting(handle: Uint8Array): OwnedFd {
    const kernelHandle = decodeHandle(handle);
    const flags = OpenFlag.rdwr | openFlags;
    if (this.#xfsHandle === undefined) return openByHandle(this.rootFd, kernelHandle, flags);
    const xfsHandle = xfsHandleFrom(this.#xfsHandle, kernelHandle);
    assert(xfsHandle !== undefined, 'the kernel handles of xfs have a known form');
    try {
      return openXfsHandle(this.rootFd, xfsHandle, flags);
    } catch (error) {
      if (!(error instanceof EbbError) || error.code !== 'ENOENT') throw error;
      throw ebbError('ESTALE', 'The file was deleted.', { cause: error, retryable: false });
    }
  }

  /** For attributes: does not count as a writer. Throws as `openForWriting`. */
  openForReading(handle: Uint8Array): OwnedFd {
    return openByHandle(this.rootFd, decodeHandle(handle), OpenFlag.rdonly | openFlags);
  }

  /** Without opening: breaks no lease. Throws ESTALE. */
  status(handle: Uint8Array): FileStatus {
    using fd = openByHandle(this.rootFd, decodeHandle(handle), OpenFlag.path);
    return fileStatus(fd.fd);
  }
}

/**
 * Poison: what a stub on xfs or btrfs consists of instead of holes. Reflinks of a text that says what it is, so that
 * programs that look for holes see data, and who gets past Ebb reads this, never zeros that look like a file.
 *
 * FICLONERANGE ends inside a block only at the end of its source (generic_remap_checks in fs/remap_range.c). So there
 * is one body of whole blocks, and, made when first needed, for each size modulo the block a file that ends so; they
 * share the body's blocks. A clone of any size ends with the end of its source.
 *
 * The poison lies in a directory that users cannot reach. Only the body is synced, once: a clone writes its source's
 * dirty pages first, and the journal keeps the order of what follows; but of a body that nobody has cloned yet a power
 * cut may leave both ends and nothing in between.
 */
import { fsyncSync } from 'node:fs';

import { assert } from '../../base/assert.ts';
import { EbbError, ebbError, toEbbError } from '../../base/errors.ts';
import { OpenFlag, openFd } from '../../sys/fd.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { writeSmallAt } from '../../sys/file-io.ts';
import { linkFile, removeFile } from '../../sys/entries.ts';
import { pread } from '../../sys/io.ts';
import { cloneRange, setCowExtentSize, setWrittenInPlace } from '../../sys/ioctl.ts';
import { fileStatus } from '../../sys/stat.ts';
import { DescriptorCache } from '../descriptor-cache.ts';

/** 64 bytes, so that it repeats in every block of any size alike. */
const line = Buffer.from('Ebb: this content is not here. Ask Ebb for it: ebb explain FILE\n');
const lineBytes = 64;
/** Each 16 MiB of a stub are one extent. */
export const poisonBodyBytes = 16 * 1024 * 1024;
/**
 * Larger stubs are not made: each 16 MiB are an extent and some microseconds of the thread that clones, in which it
 * does nothing else, and any remote can say that a file has petabytes.
 */
export const poisonedBytesMax = 16 * 1024 ** 4;
/** Larger stubs lose little to whole units of room, and who keeps and clones them may want these. */
const trimmedBytesMax = 1024 * 1024;
/** Open poison files; there is one for each size modulo the block. */
const openSourcesMax = 512;

const pattern = Buffer.alloc(1024 * 1024, line);

/** Whether all these bytes of a file, at this place of it, are poison. False for no bytes. */
export function isPoison(bytes: Uint8Array, offsetBytes: number): boolean {
  let done = 0;
  while (done < bytes.length) {
    const from = (offsetBytes + done) % lineBytes;
    const count = Math.min(bytes.length - done, pattern.length - from);
    const expected = pattern.subarray(from, from + count);
    if (expected.compare(bytes, done, done + count) !== 0) return false;
    done += count;
  }
  return done > 0;
}

export class PoisonFiles implements Disposable {
  readonly #directoryFd: number;
  readonly #blockBytes: number;
  /** By size modulo the block. */
  readonly #sources: DescriptorCache;
  #canTrim = true;

  /** `directoryFd`: where the poison files are. `blockBytes`: of the file system, a power of two >= 512. */
  constructor(directoryFd: number, blockBytes: number) {
    assert(poisonBodyBytes % blockBytes === 0 && blockBytes % lineBytes === 0, 'poison is blocks');
    assert(line.length === lineBytes, 'a line of poison has 64 bytes');
    this.#directoryFd = directoryFd;
    this.#blockBytes = blockBytes;
    this.#sources = new DescriptorCache((rest) => this.#openSource(rest), openSourcesMax);
  }

  /**
   * Puts poison over the first `sizeBytes` of a file that is not longer; it is that long afterwards. Frees what was
   * there. Throws ENOSPC, EDQUOT, EFBIG, EIO; EOPNOTSUPP where there are no reflinks.
   */
  cover(fd: number, sizeBytes: number): void {
    if (sizeBytes === 0) return;
    if (sizeBytes > poisonedBytesMax) {
      throw ebbError('EFBIG', `it has ${sizeBytes} bytes, more than ${poisonedBytesMax}`);
    }
    const rest = sizeBytes % this.#blockBytes;
    using source = this.#sources.use(rest);
    let offset = 0;
    for (; sizeBytes - offset > poisonBodyBytes; offset += poisonBodyBytes) {
      cloneRange(source.fd, 0, poisonBodyBytes, fd, offset);
    }
    const lengthBytes = sizeBytes - offset;
    cloneRange(source.fd, poisonBodyBytes + rest - lengthBytes, lengthBytes, fd, offset);
  }

  /**
   * The same for a new, empty file. On btrfs it becomes what the poison is: there, what has checksums shares no blocks
   * with what has none (mount -o nodatacow, chattr +C), and either may have come after the other was made.
   */
  coverNew(fd: number, sizeBytes: number): void {
    likePoison(fd, () => this.cover(fd, sizeBytes));
  }

  /**
   * For a new stub: content that replaces its poison will take the blocks that it needs. xfs would take 128 KiB for
   * each small file until it is closed, and thousands that are kept open would fill it. Moves ctime.
   */
  trim(fd: number, sizeBytes: number): void {
    if (!this.#canTrim || sizeBytes > trimmedBytesMax) return;
    this.#canTrim = setCowExtentSize(fd, this.#blockBytes);
  }

  [Symbol.dispose](): void {
    this.#sources[Symbol.dispose]();
  }

  #openSource(rest: number): OwnedFd {
    const name = rest === 0 ? 'body' : `rest-${rest}`;
    for (let replaced = false; ;) {
      try {
        const fd = openFd(name, OpenFlag.rdonly | OpenFlag.nofollow, 0, this.#directoryFd);
        if (isWhole(fd.fd, rest)) return fd;
        fd.close();
        if (replaced) throw ebbError('EUCLEAN', `The poison file ${name} cannot be made.`);
        // A power cut may leave one without its end. The blocks of stubs that were made of it are theirs, too.
        removeFile(this.#directoryFd, name);
        replaced = true;
      } catch (error) {
        if (!(error instanceof EbbError) || error.code !== 'ENOENT') throw error;
      }
      this.#makeSource(rest, name);
    }
  }

  /** It gets its name when it is whole. */
  #makeSource(rest: number, name: string): void {
    using fd = openFd('.', OpenFlag.tmpfile | OpenFlag.rdwr, 0o400, this.#directoryFd);
    if (rest === 0) {
      for (let at = 0; at < poisonBodyBytes; at += pattern.length) writeSmallAt(fd.fd, pattern, at);
      syncNow(fd.fd);
    } else {
      using body = this.#sources.use(0);
      likePoison(fd.fd, () => cloneRange(body.fd, 0, poisonBodyBytes, fd.fd, 0));
      writeSmallAt(fd.fd, pattern.subarray(0, rest), poisonBodyBytes);
    }
    try {
      linkFile(fd.fd, this.#directoryFd, name);
    } catch (error) {
      if (!(error instanceof EbbError) || error.code !== 'EEXIST') throw error;
    }
  }
}

/** `clone` shares blocks with an empty file, and is tried again when that has to be of the other kind. */
function likePoison(fd: number, clone: () => void): void {
  for (const isInPlace of [false, true]) {
    try {
      return clone();
    } catch (error) {
      if (toEbbError(error).code !== 'EINVAL' || !setWrittenInPlace(fd, isInPlace)) throw error;
    }
  }
  clone();
}

function syncNow(fd: number): void {
  try {
    fsyncSync(fd);
  } catch (error) {
    throw toEbbError(error);
  }
}

/** Reading each of thousands of files, which share no page cache, would cost more than all the rest: only the body. */
function isWhole(fd: number, rest: number): boolean {
  if (fileStatus(fd).sizeBytes !== poisonBodyBytes + rest) return false;
  if (rest > 0) return true;
  const bytes = new Uint8Array(lineBytes);
  return [0, poisonBodyBytes - lineBytes].every(
    (offset) => pread(fd, bytes, offset) === lineBytes && isPoison(bytes, offset),
  );
}

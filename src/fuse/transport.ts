/**
 * Where finished messages go. Sessions and repliers know no descriptor, so tests can be the kernel.
 */

export interface Transport {
  /**
   * Hands over one whole message, the first `lengthBytes` of `bytes`, as one write(2) on /dev/fuse.
   * Returns 0 or a positive errno: ENOENT when the request is gone, EINVAL when the message is
   * malformed.
   */
  send(bytes: Uint8Array, lengthBytes: number): number;
  /**
   * pread(2): reads up to `lengthBytes` at `offset` of an ordinary file into the start of `bytes`.
   * Returns the count (short only at the end of the file) or -errno.
   */
  readFile(fileDescriptor: number, bytes: Uint8Array, lengthBytes: number, offset: number): number;
}

/** ftruncate(2) on a descriptor of ours, with errors of ours. */
import { ftruncateSync } from 'node:fs';

import { toEbbError } from '../base/errors.ts';

/** Sets the size; grows without blocks. Throws EFBIG, ENOSPC, EDQUOT, EIO. */
export function truncateFile(fd: number, sizeBytes: number): void {
  try {
    ftruncateSync(fd, sizeBytes);
  } catch (error) {
    throw toEbbError(error);
  }
}

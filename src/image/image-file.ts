/** The file that an image of this machine is in. */
import { statSync } from '../base/node-fs.ts';
import { ebbError } from '../base/errors.ts';
import { encodeName } from '../base/name.ts';
import { openFd, OpenFlag } from '../sys/fd.ts';
import type { OwnedFd } from '../sys/fd.ts';

/**
 * Opens it for reading only. What no image can be in is not opened: who opens a FIFO waits for its writer, and opening
 * some devices does something. Throws ENOENT, EACCES, EISDIR, EINVAL.
 */
export function openImageFile(path: string): OwnedFd {
  const kind = statSync(Buffer.from(encodeName(path)), { throwIfNoEntry: false });
  if (kind?.isDirectory() === true)
    throw ebbError('EISDIR', `${path} is a directory, not an image.`);
  if (kind !== undefined && !kind.isFile() && !kind.isBlockDevice()) {
    throw ebbError('EINVAL', `${path} is neither a file nor a block device.`);
  }
  return openFd(path, OpenFlag.rdonly);
}

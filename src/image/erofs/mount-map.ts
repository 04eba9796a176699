/** A map becomes a mount that nobody sees but who holds its descriptor. Needs CAP_SYS_ADMIN and Linux 6.12. */
import { writeSync } from '../../base/node-fs.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { MountAttribute } from '../../sys/mount-tree.ts';
import { mountDetached } from '../../sys/new-filesystem.ts';
import { openFd, OpenFlag } from '../../sys/fd.ts';
import type { OwnedFd } from '../../sys/fd.ts';

/**
 * Mounts the map over the image that `imageFd` holds, read-only, nosuid, nodev. The map is written to a file without a
 * name in `directory`, which must lie on a disk file system (a tmpfs gives ENOTBLK); the mount keeps it. Throws EPERM
 * without privileges, ENODEV or ENOTBLK where the kernel has no EROFS, or none on files, ENOSPC, EDQUOT, ...
 */
export function mountMap(
  map: Uint8Array,
  imageFd: number,
  directory: string,
  named: (target: string) => string = (target) => target,
): OwnedFd {
  using file = openFd(directory, OpenFlag.tmpfile | OpenFlag.rdwr, 0o600);
  writeAll(file.fd, map, directory);
  return mountDetached({
    type: 'erofs',
    options: {
      source: named(`/proc/self/fd/${file.fd}`),
      device: `/proc/self/fd/${imageFd}`,
    },
    attributes: MountAttribute.rdonly | MountAttribute.nosuid | MountAttribute.nodev,
  });
}

function writeAll(fd: number, map: Uint8Array, directory: string): void {
  try {
    for (let done = 0; done < map.length;) {
      done += writeSync(fd, map, done, map.length - done, done);
    }
  } catch (error) {
    const { code, message } = toEbbError(error);
    const what = `The map of the image (${map.length} bytes) cannot be written to ${directory}`;
    throw ebbError(code, `${what}: ${message}.`, { cause: error });
  }
}

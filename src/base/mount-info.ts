/**
 * What is mounted where, from /proc/PID/mountinfo (proc_pid_mountinfo(5)). Reading it never touches the file
 * systems it names, so it is safe while a FUSE daemon hangs or is gone.
 */
import { ebbError } from './errors.ts';
import type { EbbError } from './errors.ts';
import { readFileSync } from './node-fs.ts';
import { decodeName } from './name.ts';

/** Mounts of Ebb have the type `fuse.ebb`. */
export const mountSubtype = 'ebb';

export interface MountInfo {
  readonly mountId: number;
  /** Of the mount that it is mounted on. */
  readonly parentId: number;
  /** `major:minor`, as in st_dev and /proc/PID/maps. */
  readonly device: string;
  /** The directory of the file system that it shows. */
  readonly root: string;
  readonly mountPoint: string;
  readonly fileSystemType: string;
  readonly source: string;
  /** Options of this mount, comma separated. */
  readonly options: string;
  /** `shared:N`, `master:N`: which events of mounting come and go (mount_namespaces(7)). */
  readonly propagation: readonly string[];
  /** Options of the file system (superblock), comma separated. */
  readonly superOptions: string;
}

/** Parses the text of a mountinfo file; lines that do not have the documented form are skipped. */
export function parseMountInfo(bytes: Uint8Array): MountInfo[] {
  // Octal escapes stand for single bytes: undo them on bytes, then decode names without loss.
  const mounts: MountInfo[] = [];
  for (const line of Buffer.from(bytes).toString('latin1').split('\n')) {
    const [left, right] = line.split(' - ');
    const fields = left?.split(' ') ?? [];
    const tail = right?.split(' ') ?? [];
    if (fields.length < 6 || tail.length < 3) continue;
    mounts.push({
      mountId: Number(fields[0]),
      parentId: Number(fields[1]),
      device: fields[2] ?? '',
      root: unescapeField(fields[3] ?? ''),
      mountPoint: unescapeField(fields[4] ?? ''),
      options: fields[5] ?? '',
      propagation: fields.slice(6),
      fileSystemType: tail[0] ?? '',
      source: unescapeField(tail[1] ?? ''),
      superOptions: tail[2] ?? '',
    });
  }
  return mounts;
}

/** Undoes the octal escapes of a field of mountinfo, or of one of its options. */
export function unescapeField(latin1: string): string {
  const raw = latin1.replace(/\\([0-3][0-7]{2})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
  return decodeName(Buffer.from(raw, 'latin1'));
}

/** A path as a field of mountinfo has it: space, tab, newline and backslash in octal. */
export function escapeField(path: string): string {
  const octal = (character: string): string =>
    `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`;
  return path.replaceAll(/[ \t\n\\]/g, octal);
}

/** The mounts that this process sees, in the kernel's order. */
export function readMountInfo(): MountInfo[] {
  return parseMountInfo(readFileSync('/proc/self/mountinfo'));
}

/**
 * The top mount whose mount point is exactly `mountPoint`: of those on top of each other the one that carries none.
 * Their order says little, since a mount can be moved.
 */
export function mountAt(mounts: readonly MountInfo[], mountPoint: string): MountInfo | undefined {
  const there = mounts.filter((mount) => mount.mountPoint === mountPoint);
  const carries = (one: MountInfo, other: MountInfo): boolean =>
    other !== one && other.parentId === one.mountId;
  return there.findLast((one) => !there.some((other) => carries(one, other)));
}

/** EBUSY: to unmount what Ebb has there would take away what somebody else has mounted over it. */
export function coveredError(mountPoint: string): EbbError {
  return ebbError(
    'EBUSY',
    `Something else is mounted over ${mountPoint}: take that away first with: umount ${mountPoint}`,
    { retryable: false },
  );
}

/** Whether a mount is a FUSE mount of Ebb (`fuse.ebb`). */
export function isEbbMount(mount: MountInfo): boolean {
  return mount.fileSystemType === 'fuse.ebb';
}

/** How the source of a native image mount ends (src/image/broker/native.ts). */
export const imageMapSuffix = '.ebb-map';
/** The subtype of the other image mounts, which are FUSE's (src/image/broker/serve.ts). */
export const imageSubtype = 'ebb-image';

/** Whether a mount shows an image. */
export function isImageMount({ fileSystemType, source }: MountInfo): boolean {
  const isNative = fileSystemType === 'erofs' && source.endsWith(imageMapSuffix);
  return isNative || fileSystemType === `fuse.${imageSubtype}`;
}

/** Whether a mount shows the data of an attached tree (docs/native.md), perhaps left behind by one that was killed. */
export function isTreeMount(mount: MountInfo): boolean {
  return mount.root.endsWith('/.ebb/data');
}

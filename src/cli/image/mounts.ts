/** Mounts of images, as the kernel lists them: their brokers have no records and answer no questions. */
import path from 'node:path';
import { imageMapSuffix, isImageMount, readMountInfo } from '../../base/mount-info.ts';
import type { MountInfo } from '../../base/mount-info.ts';

/** What `ebb status --json` prints of one. */
export interface ImageMountView {
  readonly kind: 'image';
  readonly mountPoint: string;
  /** Its path, or its URL without credentials; of a native mount its name alone. */
  readonly image: string;
  /** The kernel serves it alone (-o native). */
  readonly native: boolean;
}

/** Those of this user; root sees all. */
export function imageMounts(): ImageMountView[] {
  const uid = process.getuid?.() ?? 0;
  return readMountInfo()
    .filter((mount) => isImageMount(mount) && (uid === 0 || isOf(mount, uid)))
    .map(viewOf);
}

function isOf({ superOptions }: MountInfo, uid: number): boolean {
  return superOptions.split(',').includes(`user_id=${uid}`);
}

function viewOf({ mountPoint, source, fileSystemType }: MountInfo): ImageMountView {
  const native = fileSystemType === 'erofs';
  const image = native ? path.basename(source).slice(0, -imageMapSuffix.length) : source;
  return { kind: 'image', mountPoint, image, native };
}

/** How it is served, in a few words. */
export function imageMountState({ native }: ImageMountView): string {
  return native ? 'image, served by the kernel' : 'image';
}

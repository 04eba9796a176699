/** Whether somebody writes to an image: who mounts it is told. */
import { EbbError } from '../../base/errors.ts';
import { dropLease, tryLease } from '../../sys/lease.ts';
import type { ImageSource } from './source.ts';

const openForWritingNote =
  'The image is open for writing: what is written to it while it is mounted may be shown as damage, or as a mix of ' +
  'old and new.';

/** For people. The copy of a remote image is Ebb's own: it is written to by who brings parts of it. */
export function writerNotes({ image, recall }: ImageSource): readonly string[] {
  return recall === undefined && isOpenForWriting(image.fd) ? [openForWritingNote] : [];
}

/** As far as it can be told: of a file of another user it takes CAP_LEASE, and not all file systems have leases. */
function isOpenForWriting(fd: number): boolean {
  try {
    if (!tryLease(fd, 'read')) return true;
    dropLease(fd);
  } catch (error) {
    if (!(error instanceof EbbError)) throw error;
  }
  return false;
}

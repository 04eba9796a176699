/** What a mount reads its image from: a file that is all here, or a sparse copy of a remote one. */
import { fstatSync } from '../../base/node-fs.ts';
import { ebbError } from '../../base/errors.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { openImageFile } from '../image-file.ts';
import type { RecallFacts } from '../messages.ts';

export interface ImageSource {
  /** What mount(8) shows. */
  readonly name: string;
  /** Open for reading only. The mount takes it over. */
  readonly image: OwnedFd;
  readonly imageBytes: number;
  /** undefined: all of it is in the file. */
  readonly recall: ImageRecall | undefined;
}

/** Parts of an image; what is missing in it now may have come meanwhile. */
export interface DurableParts {
  /** Whether all of the range is there. */
  has(offsetBytes: number, lengthBytes: number): boolean;
}

/** How parts of a remote image come into its sparse copy. */
export interface ImageRecall extends RecallFacts {
  /** Whether the bytes are in the file. Once true, it stays true until `lost`. */
  isHere(offsetBytes: number, lengthBytes: number): boolean;
  /** What is also on stable storage now: a failed sync cannot make zeros of it any more. */
  durable(): DurableParts;
  /** Resolves when the bytes are here. Rejects with EbbError, after `deadlineMs` at the latest. */
  bring(offsetBytes: number, lengthBytes: number, deadlineMs: number): Promise<void>;
  /** The same as a hint: comes after what somebody waits for. */
  bringAhead(offsetBytes: number, lengthBytes: number): Promise<void>;
  /** Resolves, with why, when what was called here cannot be relied on any more: the mount has to end. */
  readonly lost: Promise<string>;
}

/** Throws ENOENT, EACCES, EISDIR, EINVAL (not a regular file: others have no size that means anything). */
export function localSource(imagePath: string): ImageSource {
  return openSource(imagePath, openImageFile(imagePath));
}

/** The same of a file that somebody has opened; closes it when it throws. */
export function openSource(imagePath: string, image: OwnedFd): ImageSource {
  const stat = fstatSync(image.fd);
  if (!stat.isFile()) {
    image.close();
    throw ebbError('EINVAL', `${imagePath} is not a regular file.`);
  }
  return { name: imagePath, image, imageBytes: stat.size, recall: undefined };
}

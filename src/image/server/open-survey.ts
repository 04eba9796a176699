/**
 * Whether it is worth to be asked at each open(2). A backing is the answer to an OPEN, and lets the kernel read a large
 * file by itself; but the kernel knows no connection on which only large files are asked for, and one OPEN takes as
 * long as reading a few hundred KiB. So where large files are a small part of an image, and many files are opened, the
 * kernel is told once that it need not ask any more (ENOSYS): then all files are read through the server.
 */
import type { Volume } from '../../ext4/volume.ts';

/** Who opens fewer files may have come for the large ones. */
const opensMin = 1024;
/** In large files, for each file of the image: with more, what mapping saves is more than what all the OPENs cost. */
const largeBytesPerFileMax = 64 * 1024;

export class OpenSurvey {
  readonly #volume: Volume;
  readonly #largeMinBytes: number;
  #opens = 0;
  #saysNeedless = false;

  /** `largeMinBytes`: files of this size and more are mapped. */
  constructor(volume: Volume, largeMinBytes: number) {
    this.#volume = volume;
    this.#largeMinBytes = largeMinBytes;
  }

  /** To be asked at each OPEN. True: no further one is needed. */
  saysNeedless(): boolean {
    this.#opens += 1;
    if (this.#opens === opensMin) {
      const sizes = this.#volume.fileSizes(this.#largeMinBytes);
      this.#saysNeedless =
        sizes !== undefined && sizes.largeBytes <= sizes.files * largeBytesPerFileMax;
    }
    return this.#saysNeedless;
  }
}

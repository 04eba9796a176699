/**
 * Whether any file of the image has an extended attribute that is shown. Programs ask for the ACL of every file that
 * they list; where there are none, one look at the inode tables and one ENOSYS save a request for each.
 */
import { EbbError } from '../../base/errors.ts';
import type { Volume } from '../../ext4/volume.ts';
import { isShownXattr } from './shown-xattrs.ts';

/** Who asks for fewer is answered file by file: ENODATA says more than EOPNOTSUPP, which the kernel makes of ENOSYS. */
const questionsMin = 64;

export class AttributeSurvey {
  readonly #volume: Volume;
  #questions = 0;
  #saysNone = false;

  constructor(volume: Volume) {
    this.#volume = volume;
  }

  /** To be asked at each question for an attribute. True: no file has any. */
  saysNone(): boolean {
    this.#questions += 1;
    if (this.#questions === questionsMin) this.#saysNone = hasNone(this.#volume);
    return this.#saysNone;
  }
}

function hasNone(volume: Volume): boolean {
  try {
    const numbers = volume.attributedInodes();
    if (numbers === undefined) return false;
    return numbers.every((number) => {
      const xattrs = volume.xattrs(volume.inode(number));
      return !xattrs.some(({ name }) => isShownXattr(name));
    });
  } catch (error) {
    // One of them is damaged: who asks for its attributes shall hear that.
    if (error instanceof EbbError) return false;
    throw error;
  }
}

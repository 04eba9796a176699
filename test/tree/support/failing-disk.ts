/** A disk that takes no data while `fails`, for `syncData` of a store or a cache. */
import { ebbError } from '../../../src/base/errors.ts';

export class FailingDisk {
  fails: boolean;

  constructor(fails = false) {
    this.fails = fails;
  }

  readonly syncData = (): Promise<void> =>
    this.fails ? Promise.reject(ebbError('EIO', 'disk')) : Promise.resolve();
}

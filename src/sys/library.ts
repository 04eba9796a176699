/** The FFI library, which only this folder uses: how it is loaded. Its habits: ffi.ts. */
import { createRequire } from 'node:module';
import type Koffi from 'koffi';

const require = createRequire(`${import.meta.dirname}/`);

/**
 * The library's binary package itself. The index of the package around it looks for a binary in many places and adds
 * what is deprecated, which takes 5 ms of each start; where packages are laid out so that only it finds the binary, it
 * is asked.
 */
function load(): typeof Koffi {
  try {
    return require(`@koromix/koffi-linux-${process.arch}`) as typeof Koffi;
  } catch {
    return require('koffi') as typeof Koffi;
  }
}

export const koffi = load();

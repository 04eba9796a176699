/**
 * The one place where what is wrong with an image becomes an errno. Three kinds and no more: the
 * image contradicts itself (EUCLEAN, as the kernel says), it uses what Ebb does not know
 * (EOPNOTSUPP), or its bytes cannot be read (EIO).
 */
import { ebbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';

/** The image contradicts itself. `what` names the structure and what is wrong with it. */
export function corrupt(what: string): EbbError {
  return ebbError('EUCLEAN', `The image is damaged: ${what}`);
}

/** The image may be sound, but uses something that Ebb does not know or will not do. */
export function unsupported(what: string): EbbError {
  return ebbError('EOPNOTSUPP', what);
}

/** The bytes of the image cannot be had. */
export function inputOutput(what: string, cause?: unknown): EbbError {
  return ebbError('EIO', what, { cause });
}

/** Content that is encrypted; Ebb holds no keys and never decrypts. */
export function noKey(what: string): EbbError {
  return ebbError('ENOKEY', what);
}

/** Whether an error says that bytes of the image are wrong or lost, so that a copy of them may help. */
export function isDamage(error: EbbError): boolean {
  return error.code === 'EUCLEAN' || (error.code === 'EIO' && !error.retryable);
}

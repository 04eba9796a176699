/** What the engine says to callers whom it does not serve. */
import { ebbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import type { ContentFile } from '../tree/content.ts';

export function closedError(): EbbError {
  return ebbError('EINTR', 'Ebb is stopping.');
}

export function interrupted(file: ContentFile): EbbError {
  return ebbError('EINTR', `The reader of ${file.key} gave up.`);
}

/** A remote's internal refusals mean nothing to who reads a file; network errors would surprise programs. */
export function forReader(error: EbbError): EbbError {
  const { code, retryable, retryAfterMs } = error;
  const known = ['EIO', 'ESTALE', 'ENOENT', 'EACCES', 'ENOSPC', 'EDQUOT', 'EINTR', 'EAGAIN'];
  if (known.includes(code)) return error;
  return ebbError('EIO', error.message, { cause: error, retryable, retryAfterMs });
}

export function overdue(file: ContentFile, deadlineMs: number): EbbError {
  const message = `The deadline of ${deadlineMs} ms passed while recalling ${file.key}.`;
  return ebbError('EIO', message, { retryable: true });
}

export function tooMany(waiting: number): EbbError {
  return ebbError('EAGAIN', `${waiting} recalls are waiting already; no more are taken.`);
}

/** How long a question may wait for what its file lacks. */
import { AttendedTimer } from '../base/attended-timer.ts';
import { ebbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import type { StubFile } from '../tree/stubs/stub-store.ts';

/** Until it is disposed: calls `onOverdue` whenever nothing of the file has arrived for `deadlineMs`. */
export function questionDeadline(
  { id, key, residency }: Pick<StubFile, 'id' | 'key' | 'residency'>,
  deadlineMs: number,
  onOverdue: (fileId: number, error: EbbError) => void,
): Disposable {
  let arrived = residency.residentChunks;
  const look = (): void => {
    timer = new AttendedTimer(deadlineMs, look, { unref: true });
    if (residency.residentChunks > arrived) {
      arrived = residency.residentChunks;
      return;
    }
    const message = `${key} did not come within ${deadlineMs} ms.`;
    onOverdue(id, ebbError('EIO', message, { retryable: true }));
  };
  let timer = new AttendedTimer(deadlineMs, look, { unref: true });
  return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
}

/** How long a question may wait for what its file lacks. */
import { ebbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import type { StubFile } from '../tree/stubs/stub-store.ts';

/** Until it is disposed: calls `onOverdue` whenever nothing of the file has arrived for `deadlineMs`. */
export function questionDeadline(
  file: StubFile,
  deadlineMs: number,
  onOverdue: (fileId: number, error: EbbError) => void,
): Disposable {
  let arrived = file.residency.residentChunks;
  const timer = setInterval(() => {
    if (file.residency.residentChunks > arrived) {
      arrived = file.residency.residentChunks;
      return;
    }
    const message = `${file.key} did not come within ${deadlineMs} ms.`;
    onOverdue(file.id, ebbError('EIO', message, { retryable: true }));
  }, deadlineMs);
  timer.unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

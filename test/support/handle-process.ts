/**
 * A process of its own that takes and opens kernel file handles on a mount: the test's process itself never touches a
 * mount that might hang. Forked; talks over IPC, one answer for one question.
 */
import { readSync } from 'node:fs';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import {
  decodeHandle,
  encodeHandle,
  handleAt,
  handleOf,
  openByHandle,
} from '../../src/sys/handle.ts';
import { toEbbError } from '../../src/base/errors.ts';
import { churn } from './handle-churn.ts';
import type { ChurnRequest } from './handle-churn.ts';

export type HandleRequest =
  | { readonly kind: 'take'; readonly file: string }
  /** Opens what the handle means and reads its first bytes, or lists the names of a directory. */
  | { readonly kind: 'open'; readonly mount: string; readonly handle: string }
  /** Tries each, without opening what it means; which were taken. */
  | { readonly kind: 'try'; readonly mount: string; readonly handles: readonly string[] }
  | { readonly kind: 'hold'; readonly file: string }
  | { readonly kind: 'readHeld' }
  | ({ readonly kind: 'churn' } & ChurnRequest);

const textBytesMax = 256;
let held: OwnedFd | undefined;

process.on('message', (request: HandleRequest) => {
  let answer: unknown;
  try {
    answer = { value: carryOut(request) };
  } catch (error) {
    answer = { code: toEbbError(error).code };
  }
  process.send?.(answer);
});
process.on('disconnect', () => process.exit(0));

function carryOut(request: HandleRequest): unknown {
  switch (request.kind) {
    case 'take':
      return hex(encodeHandle(handleOf(request.file).handle));
    case 'open':
      return open(request.mount, request.handle);
    case 'try': {
      using mount = openFd(request.mount, OpenFlag.rdonly | OpenFlag.directory);
      return request.handles.filter((handle) => isTaken(mount, handle));
    }
    case 'hold':
      held?.close();
      held = openFd(request.file, OpenFlag.rdonly);
      return textOf(held.fd);
    case 'readHeld':
      return held === undefined ? '' : textOf(held.fd);
    case 'churn':
      return churn(request);
  }
}

function open(mountPoint: string, handle: string): string {
  using mount = openFd(mountPoint, OpenFlag.rdonly | OpenFlag.directory);
  using opened = openByHandle(mount.fd, decodeHandle(Buffer.from(handle, 'hex')), OpenFlag.rdonly);
  try {
    return textOf(opened.fd);
  } catch (error) {
    if (toEbbError(error).code !== 'EISDIR') throw error;
    return hex(encodeHandle(handleAt(opened.fd, '.')));
  }
}

function isTaken(mount: OwnedFd, handle: string): boolean {
  try {
    openByHandle(mount.fd, decodeHandle(Buffer.from(handle, 'hex')), OpenFlag.path).close();
    return true;
  } catch (error) {
    const { code } = toEbbError(error);
    if (code === 'ESTALE' || code === 'EIO' || code === 'EINVAL') return false;
    throw error;
  }
}

function textOf(fd: number): string {
  const buffer = Buffer.alloc(textBytesMax);
  return buffer.toString('utf8', 0, readSync(fd, buffer, 0, textBytesMax, 0));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** What the server says in words, and what it is: shared by both kinds of mounts. Nothing of it is believed. */
import { Errno } from '../../base/errno.ts';
import type { ErrnoCode } from '../../base/errno.ts';
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import type { Failed, Opened } from '../messages.ts';
import type { SandboxedServer } from '../sandbox/launch.ts';

export const nonsense = 'The server of the image sends nonsense.';
export const imageErrorText = 'The image cannot be mounted';
const textMax = 1000;
const notesMax = 20;

/** JSON of a process that is not believed: an object, or EPROTO. Its fields are checked where they are used. */
export function parseFrame(payload: Uint8Array): object {
  try {
    const value: unknown = JSON.parse(Buffer.from(payload).toString());
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // As any other nonsense.
  }
  throw ebbError('EPROTO', nonsense);
}

/** Whether numbers that may be anything are a range below `endBytes`; an empty one is. */
export function isInside(offsetBytes: number, sizeBytes: number, endBytes: number): boolean {
  return (
    Number.isSafeInteger(offsetBytes) &&
    Number.isSafeInteger(sizeBytes) &&
    offsetBytes >= 0 &&
    sizeBytes >= 0 &&
    offsetBytes + sizeBytes <= endBytes
  );
}

/** Only what can be shown and counted with; the rest of what it says is dropped. */
export function openedOf(value: object): Opened {
  const said = value as Readonly<Record<string, unknown>>;
  const text = (one: unknown): string => (typeof one === 'string' ? one.slice(0, textMax) : '');
  const notes = Array.isArray(said['notes']) ? said['notes'].slice(0, notesMax).map(text) : [];
  const { blockBytes, startBytes } = said;
  return {
    blockBytes: typeof blockBytes === 'number' ? blockBytes : 0,
    startBytes: typeof startBytes === 'number' ? startBytes : undefined,
    label: text(said['label']),
    uuid: text(said['uuid']),
    notes,
  };
}

/** What the user is told besides: also of what is around the server, and of the image's file. */
export function withNotes(opened: Opened, { notes }: Pick<SandboxedServer, 'notes'>): Opened {
  return { ...opened, notes: [...notes, ...opened.notes] };
}

/** The error in a `failed`. */
export function failureOf(payload: Uint8Array): EbbError {
  const { code, message } = parseFrame(payload) as Partial<Failed>;
  const known = Object.hasOwn(Errno, String(code)) ? (code as ErrnoCode) : 'EIO';
  return ebbError(known, `${imageErrorText}: ${String(message).slice(0, textMax)}`);
}

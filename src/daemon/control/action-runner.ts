/** Runs one piece of work per file, a few at a time, and tells how far it is. */
import { addCounts } from '../../base/counts.ts';
import { toEbbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import type { ActionResult, Progress, RefreshChanges } from '../api.ts';
import type { Action } from './handlers.ts';

const progressIntervalMs = 250;

/** Why a file was left alone for safety; shown to the user, exit code 3. */
export class Refusal {
  readonly code: string;
  readonly error: string;

  constructor(code: string, error: string) {
    this.code = code;
    this.error = error;
  }
}

/** What is to be done something with: at least its name, for people, and its size. */
export interface ActionItem {
  readonly path: string;
  readonly sizeBytes: number;
}

export type FileWork<Item extends ActionItem = ActionItem> = Item & {
  /** Updated by the work as it goes. */
  doneBytes: number;
  /** As in `Progress`. */
  broughtBytes?: number;
  changes?: RefreshChanges;
};

export interface Missing {
  readonly path: string;
  readonly error: EbbError;
}

export interface ActionOptions<Item extends ActionItem> {
  readonly concurrencyMax: number;
  readonly signal: AbortSignal;
  /** What could not even be found; told first. */
  readonly missing?: readonly Missing[];
  /** Does the work of one file; a `Refusal` is an answer, not a failure. `signal`: that of these options. */
  readonly work: (file: FileWork<Item>, signal: AbortSignal) => Promise<Refusal | undefined>;
}

export async function* runAction<Item extends ActionItem>(
  files: readonly Item[],
  options: ActionOptions<Item>,
): Action {
  const totalBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  const missing = options.missing ?? [];
  const result = new Sums(missing.length);
  const active = new Map<FileWork<Item>, Promise<void>>();
  const ended: { file: FileWork; outcome: NonNullable<Progress['outcome']> }[] = missing.map(
    ({ path, error: { code, message } }) => ({
      file: { path, sizeBytes: 0, doneBytes: 0 },
      outcome: { code, error: message },
    }),
  );
  let endedBytes = 0;
  let filesDone = 0;

  const start = (file: FileWork<Item>): void => {
    const done = (
      outcome: NonNullable<Progress['outcome']>,
      kind: 'ok' | 'failed' | 'refused',
    ): void => {
      result.add(file, kind);
      ended.push({ file, outcome });
      active.delete(file);
    };
    active.set(
      file,
      options.work(file, options.signal).then(
        (refusal) => {
          if (refusal === undefined) done('ok', 'ok');
          else done({ code: refusal.code, error: refusal.error }, 'refused');
        },
        (thrown: unknown) => {
          const { code, message } = toEbbError(thrown);
          done({ code, error: message }, 'failed');
        },
      ),
    );
  };
  const describe = (file: FileWork): Progress => {
    let running = 0;
    for (const other of active.keys()) running += other.doneBytes;
    return {
      path: file.path,
      doneBytes: file.doneBytes,
      sizeBytes: file.sizeBytes,
      totalDoneBytes: endedBytes + running,
      totalBytes,
      filesDone,
      filesTotal: files.length + missing.length,
    };
  };

  let next = 0;
  while (next < files.length || active.size > 0 || ended.length > 0) {
    options.signal.throwIfAborted();
    while (active.size < options.concurrencyMax && next < files.length) {
      const file = files[next];
      next += 1;
      if (file !== undefined) start({ ...file, doneBytes: 0 });
    }
    const timer = Promise.withResolvers<void>();
    const timeout = setTimeout(timer.resolve, ended.length > 0 ? 0 : progressIntervalMs);
    await Promise.race([timer.promise, ...active.values()]);
    clearTimeout(timeout);
    for (let end = ended.shift(); end !== undefined; end = ended.shift()) {
      filesDone += 1;
      endedBytes += end.file.doneBytes;
      yield { ...describe(end.file), outcome: end.outcome, ...factsOf(end.file) };
    }
    const current = active.keys().next();
    if (current.done !== true) yield describe(current.value);
  }
  return result.result;
}

/** What the works of a request have told, added up. */
class Sums {
  readonly #counts: Record<'ok' | 'failed' | 'refused' | 'bytes', number>;
  #alreadyHere: number | undefined;
  #changes: RefreshChanges | undefined;

  constructor(failed: number) {
    this.#counts = { ok: 0, failed, refused: 0, bytes: 0 };
  }

  get result(): ActionResult {
    const [alreadyHere, changes] = [this.#alreadyHere, this.#changes];
    return {
      ...this.#counts,
      ...(alreadyHere === undefined ? {} : { alreadyHere }),
      ...(changes === undefined ? {} : { changes }),
    };
  }

  add(file: FileWork, kind: 'ok' | 'failed' | 'refused'): void {
    const { broughtBytes, changes, doneBytes, sizeBytes } = file;
    this.#counts[kind] += 1;
    if (changes !== undefined) this.#changes = addCounts(this.#changes, changes);
    if (kind !== 'ok') return;
    this.#counts.bytes += broughtBytes ?? doneBytes;
    if (broughtBytes === undefined) return;
    const isHere = sizeBytes > 0 && broughtBytes === 0;
    this.#alreadyHere = (this.#alreadyHere ?? 0) + (isHere ? 1 : 0);
  }
}

function factsOf({ broughtBytes, changes }: FileWork): Pick<Progress, 'broughtBytes' | 'changes'> {
  return {
    ...(broughtBytes === undefined ? {} : { broughtBytes }),
    ...(changes === undefined ? {} : { changes }),
  };
}

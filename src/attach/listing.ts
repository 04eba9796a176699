/** The complete listing of one remote directory, with exact sizes and versions of its files. */
import { toEbbError } from '../base/errors.ts';
import type { StubRecord } from '../catalog/stub-catalog.ts';
import { joinKey } from '../remote/key.ts';
import type { ListedObject, Remote, SkippedName } from '../remote/remote.ts';

export interface Listing {
  readonly objects: readonly ListedObject[];
  readonly skipped: readonly SkippedName[];
}

/** Questions about single files at once; the remote has a limit of its own. */
const questionsMax = 64;

/**
 * Lists, and asks about each file of which the listing does not tell enough. Rejects when anything is incomplete:
 * then nothing may be concluded from what is missing.
 */
export async function listExactly(
  remote: Remote,
  key: string,
  recordOf: (key: string) => StubRecord | undefined,
  signal: AbortSignal,
): Promise<Listing> {
  const objects: ListedObject[] = [];
  const skipped: SkippedName[] = [];
  const unsure: number[] = [];
  for await (const batch of remote.list(key, { signal })) {
    for (const object of batch.objects) {
      if (!isSure(object)) unsure.push(objects.length);
      objects.push(object);
    }
    skipped.push(...batch.skipped);
  }
  const ask = async (): Promise<void> => {
    for (let index = unsure.pop(); index !== undefined; index = unsure.pop()) {
      const object = objects[index] as ListedObject;
      objects[index] = await exactly(remote, joinKey(key, object.name), object, recordOf, signal);
    }
  };
  await Promise.all(Array.from({ length: Math.min(questionsMax, unsure.length) }, ask));
  return { objects, skipped };
}

function isSure(object: ListedObject): boolean {
  if (object.kind === 'file') return object.sizeBytes !== undefined && object.version !== undefined;
  return object.kind !== 'symlink' || object.target !== undefined;
}

async function exactly(
  remote: Remote,
  key: string,
  object: ListedObject,
  recordOf: (key: string) => StubRecord | undefined,
  signal: AbortSignal,
): Promise<ListedObject> {
  const record = recordOf(key);
  if (record !== undefined && looksTheSame(object, record)) {
    return { ...object, version: record.version };
  }
  try {
    return { ...object, ...(await remote.stat(key, { signal })), name: object.name };
  } catch (error) {
    signal.throwIfAborted();
    // Refused or gone since: it has a name, so nothing is removed; it is reported as one that tells too little.
    if (['EACCES', 'ENOENT'].includes(toEbbError(error).code)) return object;
    throw error;
  }
}

/** Exact size and time are those of the version that is known: no question is worth a request then. */
function looksTheSame({ mtime, sizeBytes }: ListedObject, record: StubRecord): boolean {
  return (
    sizeBytes === record.sizeBytes &&
    mtime?.seconds === record.mtimeSeconds &&
    mtime.nanoseconds === record.mtimeNanoseconds
  );
}

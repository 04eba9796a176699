/** Stubs that the catalog does not know, found by their marks: before a tree is dissolved they are recalled, too. */
import { StubChange } from '../../base/stub-facts.ts';
import type { StubFacts } from '../../base/stub-facts.ts';
import { recordAdopted } from '../../attach/local-directory.ts';
import { markedFiles } from '../../attach/marked-files.ts';
import type { MarkedFile } from '../../attach/marked-files.ts';
import { toEbbError } from '../../base/errors.ts';
import { OpenFlag, openFd } from '../../sys/fd.ts';
import { encodeHandle } from '../../sys/handle.ts';
import { fileStatus, sameTime } from '../../sys/stat.ts';
import { inspectMarked } from '../../tree/stubs/marked-facts.ts';
import { mayBeStub } from '../../tree/stubs/stub-mark.ts';
import type { NativeStubStore } from '../../tree/stubs/store.ts';
import type { AttachProblem } from '../start-api.ts';
import type { TreeParts } from './tree-parts.ts';

const wayOut = 'delete it, or move it out of the tree';

export interface Strays {
  /** These can be recalled now. */
  readonly adopted: number;
  /** Of these nobody knows what is to be in them. */
  readonly problems: readonly AttachProblem[];
}

/** Gives each a record. Looks at all names of the tree: what was not moved meanwhile has been seen when it resolves. */
export async function adoptStrays(parts: Pick<TreeParts, 'catalog' | 'store'>): Promise<Strays> {
  const { catalog, store } = parts;
  const problems: AttachProblem[] = [];
  let adopted = 0;
  for await (const found of markedFiles(store.rootFd)) {
    const { path, mark, handle } = found;
    if (catalog.stateByHandle(encodeHandle(handle)) !== undefined) continue;
    if (!mayBeStub(mark, handle, store.rootFd, store.seal)) continue;
    const facts = factsOf(store, found);
    if (facts === undefined) continue;
    if (typeof facts === 'string') {
      problems.push({ path, error: facts });
      continue;
    }
    recordAdopted(catalog, facts);
    adopted += 1;
  }
  return { adopted, problems };
}

/** Undefined: it went. A sentence: what is to be in it is not known. */
function factsOf(store: NativeStubStore, { at }: MarkedFile): StubFacts | string | undefined {
  const flags = OpenFlag.rdonly | OpenFlag.nofollow | OpenFlag.nonblock | OpenFlag.noatime;
  try {
    using file = openFd(at.name, flags, 0, at.fd);
    const marked = inspectMarked(file.fd, store.seal, store.hasPoison);
    if (marked === undefined) return undefined;
    if ('why' in marked) return `it may have no content (${marked.why}): ${wayOut}`;
    const { facts } = marked;
    const recorded = { seconds: facts.mtimeSeconds, nanoseconds: facts.mtimeNanoseconds };
    if (facts.change === StubChange.dirty) return facts;
    if (sameTime(fileStatus(file.fd).mtime, recorded)) return facts;
    return `it may have been changed, and the catalog does not know it: ${wayOut}`;
  } catch (error) {
    const { code, message } = toEbbError(error);
    return code === 'ENOENT' ? undefined : message;
  }
}

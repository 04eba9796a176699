/** The names of the remote come in before anybody sees the tree. */
import type { PopulateResult, Populator } from '../../attach/populate.ts';
import { ebbError } from '../../base/errors.ts';
import type { StubCatalog } from '../../catalog/stub-catalog.ts';
import type { AttachProblem, AttachStartResult } from '../start-api.ts';
import type { SupervisorLink } from './supervisor-link.ts';

/** What `ebb attach` is told besides who serves. */
export type AttachFacts = Omit<
  Extract<AttachStartResult, { ok: true }>,
  'ok' | 'run' | 'supervisorPid'
>;

const problemsMax = 100;

export const nothingNew: AttachFacts = Object.freeze({
  directories: 0,
  stubs: 0,
  symlinks: 0,
  remoteBytes: 0,
  kept: 0,
  skipped: 0,
  failed: 0,
  problems: [],
});

export interface FirstNamesOptions {
  readonly populator: Populator;
  readonly catalog: StubCatalog;
  readonly link: SupervisorLink;
  readonly signal: AbortSignal;
  /** Why the remote cannot be used now. */
  readonly remoteProblem: string | undefined;
}

/**
 * Brings in what was never complete; asks the remote nothing when everything was. Throws EIO when not even the root can
 * be listed and never was: then there is nothing to show.
 */
export async function bringNames(options: FirstNamesOptions): Promise<AttachFacts> {
  const { populator, catalog, link, signal, remoteProblem } = options;
  const result = await populator.run({
    mode: 'resume',
    isExposed: false,
    signal,
    onProgress: ({ directories, stubs, bytes, key }) =>
      link.progress({ directories, stubs, bytes, path: key }),
  });
  const rootFailure = result.failures.find(({ key }) => key === '');
  if (rootFailure !== undefined && (catalog.listed('')?.listedAtMs ?? 0) === 0) {
    throw ebbError('EIO', `the remote cannot be listed: ${rootFailure.message}`);
  }
  const facts = factsOf(result);
  if (remoteProblem === undefined) return facts;
  const problem = { path: '', error: `what is not here cannot be read now: ${remoteProblem}` };
  return { ...facts, problems: [problem, ...facts.problems] };
}

function factsOf(result: PopulateResult): AttachFacts {
  const { kept, conflict, lost, skipped } = result.reported;
  const problems: AttachProblem[] = [
    ...result.failures.map(({ key, message }) => ({ path: key, error: message })),
    ...result.reports.map(({ key, message }) => ({ path: key, error: message })),
  ];
  return {
    directories: result.directories,
    stubs: result.stubs,
    symlinks: result.symlinks,
    remoteBytes: result.bytes,
    kept: kept + conflict + lost,
    skipped,
    failed: result.failed,
    problems: problems.slice(0, problemsMax),
  };
}

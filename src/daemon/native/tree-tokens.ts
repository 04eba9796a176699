/** What gives out a tree's handle tokens, made with the handle secret beside its catalog. */
import { toEbbError } from '../../base/errors.ts';
import type { StubCatalog } from '../../catalog/stub-catalog.ts';
import { handleRecord, openHandleSecret } from '../../tree/handle-secret.ts';
import { TokenDesk } from '../handles/token-desk.ts';
import { TokenSeal } from '../handles/token.ts';
import type { Logbook } from '../logbook.ts';

export interface TreeTokensOptions {
  readonly stateDirectory: string;
  readonly treeId: string;
  readonly catalog: StubCatalog;
  readonly logbook: Logbook;
}

/** Undefined, and the reason in the log, where the secret is not as it must be: the tree is served all the same. */
export function openTreeTokens(options: TreeTokensOptions): TokenDesk | undefined {
  const { stateDirectory, treeId, catalog, logbook } = options;
  try {
    const { tokenKey } = openHandleSecret({
      directory: stateDirectory,
      treeId,
      record: handleRecord(catalog),
      renew: false,
      renewal: 'run ebb rebuild',
    });
    return new TokenDesk(new TokenSeal(treeId, tokenKey), catalog);
  } catch (error) {
    logbook.log('error', `there are no tokens: ${toEbbError(error).message}`);
    return undefined;
  }
}

/** Gives out handle tokens, takes them in, revokes them, and counts what it refused. */
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import type { TokenSeal } from './token.ts';

/** Files whose tokens were revoked one by one; beyond it only a new handle secret helps. */
export const revokedFilesMax = 100_000;

/** Settings of the catalog: durable when `setSetting` returns. */
export interface TokenSettings {
  setting(name: string): string | undefined;
  setSetting(name: string, value: string): void;
}

export type TokenRefusal = 'invalid' | 'revoked' | 'stale';

const countSetting = 'handle-revoked-files';
const revisionSetting = (id: number): string => `handle-revision:${id}`;

export class TokenDesk {
  readonly #seal: TokenSeal;
  readonly #settings: TokenSettings;
  readonly #refused: Record<TokenRefusal, number> = { invalid: 0, revoked: 0, stale: 0 };

  constructor(seal: TokenSeal, settings: TokenSettings) {
    this.#seal = seal;
    this.#settings = settings;
  }

  get tag(): string {
    return this.#seal.tag;
  }

  /** How many tokens were refused, and why: made up or broken; revoked; of what is not there any more. */
  get refused(): Readonly<Record<TokenRefusal, number>> {
    return this.#refused;
  }

  issue(id: number): string {
    return this.#seal.seal({ id, revision: this.#revisionOf(id) });
  }

  /** The id that a token stands for. Throws EACCES for what is not ours, or not any more. */
  check(token: string): number {
    const facts = this.#seal.unseal(token);
    if (facts === undefined) {
      // One sentence for all that is wrong: forged, cut, of another tree, from before a new handle secret.
      throw this.#refuse('invalid', 'The token was not given out here, or is not valid any more.');
    }
    if (facts.revision !== this.#revisionOf(facts.id)) {
      throw this.#refuse('revoked', 'The token was revoked.');
    }
    return facts.id;
  }

  /** For an id whose file is gone: counts, and gives the error to throw. */
  stale(message: string): EbbError {
    this.#refused.stale += 1;
    return ebbError('ESTALE', message, { retryable: false });
  }

  /** No token that was given out for this file so far is taken any more; durable. Throws ENOSPC above the maximum. */
  revoke(token: string): void {
    const id = this.check(token);
    const revision = this.#revisionOf(id);
    if (revision === 0) {
      const count = Number(this.#settings.setting(countSetting) ?? 0) + 1;
      if (count > revokedFilesMax) {
        throw ebbError(
          'ENOSPC',
          `The tokens of ${revokedFilesMax} files were revoked one by one; ` +
            'mount with --new-handles to make all tokens stale.',
        );
      }
      this.#settings.setSetting(countSetting, String(count));
    }
    this.#settings.setSetting(revisionSetting(id), String(revision + 1));
  }

  #revisionOf(id: number): number {
    return Number(this.#settings.setting(revisionSetting(id)) ?? 0);
  }

  #refuse(why: TokenRefusal, message: string): EbbError {
    this.#refused[why] += 1;
    return ebbError('EACCES', message, { retryable: false });
  }
}

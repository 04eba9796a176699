/** What status and metrics say about handle tokens. */
import type { TokenStatus } from '../api.ts';
import type { TokenDesk } from '../handles/token-desk.ts';
import type { MetricFamily } from './open-metrics.ts';

type Desk = Pick<TokenDesk, 'tag' | 'refused'>;

/** Undefined: there are no tokens. */
export function tokenStatus(desk: Desk | undefined): TokenStatus {
  if (desk === undefined) return { tokenTag: '', tokensRefused: 0 };
  const { tag, refused } = desk;
  const { invalid, revoked, stale } = refused;
  return { tokenTag: tag, tokensRefused: invalid + revoked + stale };
}

export function tokenMetric({ refused }: Desk): MetricFamily {
  return {
    name: 'ebb_tokens_refused',
    type: 'counter',
    help: 'Handle tokens that were made up, revoked, or of what is gone.',
    samples: Object.entries(refused).map(([reason, value]) => ({ labels: { reason }, value })),
  };
}

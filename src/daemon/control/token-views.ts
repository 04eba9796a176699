/** What status and metrics say about handle tokens. */
import type { TokenStatus } from '../api.ts';
import type { TokenDesk } from '../handles/token-desk.ts';
import type { MetricFamily } from './open-metrics.ts';

type Desk = Pick<TokenDesk, 'tag' | 'refused'>;

export function tokenStatus({ tag, refused }: Desk): TokenStatus {
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

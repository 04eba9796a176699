/** Random faults that a seed decides: the same seed and the same calls give the same faults. */
import type { DecideFault, Fault, FaultCall } from './fault.ts';

export interface FaultRates {
  /** Fails before anything was delivered. Rates are 0..1 and tried in this order. */
  readonly error?: number;
  /** Fails after some bytes or batches. */
  readonly broken?: number;
  readonly delay?: number;
  readonly stall?: number;
  readonly changed?: number;
  /** Default 5. */
  readonly delayMaxMs?: number;
  /** Where reads break, at most. Default 1 MiB. */
  readonly brokenMaxBytes?: number;
  /**
   * After so many faults in a row a call goes through, so that bounded retries must succeed.
   * Default 3.
   */
  readonly consecutiveMax?: number;
}

export function seededFaults(seed: number, rates: FaultRates): DecideFault {
  const random = generator(seed);
  const consecutiveMax = rates.consecutiveMax ?? 3;
  let consecutive = 0;
  return (call) => {
    const fault = consecutive < consecutiveMax ? draw(random, rates, call) : undefined;
    consecutive = fault === undefined || fault.kind === 'delay' ? 0 : consecutive + 1;
    return fault;
  };
}

function draw(random: () => number, rates: FaultRates, call: FaultCall): Fault | undefined {
  const place = random();
  const amount = random();
  const broken = Math.ceil(
    amount * (call.call === 'read' ? (rates.brokenMaxBytes ?? 1024 * 1024) : 3),
  );
  const choices: readonly (readonly [number | undefined, Fault])[] = [
    [rates.error, { kind: 'error' }],
    [rates.broken, { kind: 'error', after: call.call === 'stat' ? 0 : broken }],
    [rates.delay, { kind: 'delay', delayMs: Math.ceil(amount * (rates.delayMaxMs ?? 5)) }],
    [rates.stall, { kind: 'stall', after: call.call === 'stat' ? 0 : broken }],
    [rates.changed, { kind: 'changed', after: call.call === 'stat' ? 0 : broken }],
  ];
  let upTo = 0;
  for (const [rate = 0, fault] of choices) {
    upTo += rate;
    if (place < upTo) return fault;
  }
  return undefined;
}

/** mulberry32: small, good enough, the same everywhere. */
export function generator(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Waiting for a condition, with an end and a sentence about what was waited for. */
import { AssertionError } from 'node:assert';
import { setTimeout as sleep } from 'node:timers/promises';
import { patience } from './patience.ts';

export interface WaitForOptions {
  /** For the message: "waited 5000 ms for ...". */
  readonly what: string;
  /** After what time something hangs: no machine is that slow. Default 15,000. */
  readonly timeoutMs?: number;
  /** Default 20. */
  readonly intervalMs?: number;
}

/**
 * Polls `check` until it gives something truthy and returns that. An exception counts as "not yet", but not that of an
 * assertion: what must never be (a wrong byte) is not waited away.
 */
export async function waitFor<T>(
  check: () => T | Promise<T>,
  options: WaitForOptions,
): Promise<NonNullable<T>> {
  const timeoutMs = options.timeoutMs ?? 15_000;
  const deadlineMs = performance.now() + patience * timeoutMs;
  let lastError: unknown;
  for (;;) {
    try {
      const value = await check();
      if (value) return value;
      lastError = undefined;
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      lastError = error;
    }
    if (performance.now() >= deadlineMs) {
      throw new Error(`waited ${timeoutMs} ms for ${options.what}`, { cause: lastError });
    }
    await sleep(options.intervalMs ?? 20);
  }
}

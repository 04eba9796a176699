/** What is on stable storage of a cache, as its catalog has it: what the daemon says of itself may not be yet. */
import { DatabaseSync } from 'node:sqlite';
import { catalogPath } from '../../src/tree/layout.ts';
import { waitFor } from './wait-for.ts';

/** Resolves when so much of the content of a mount would be found by its next daemon. */
export async function untilDurable(
  { cacheDirectory }: { readonly cacheDirectory: string },
  residentBytes: number,
): Promise<void> {
  using catalog = new DatabaseSync(catalogPath(cacheDirectory), { readOnly: true });
  const sum = catalog.prepare('SELECT resident_bytes AS bytes FROM counters');
  const isDurable = (): boolean => Number(sum.get()?.['bytes']) >= residentBytes;
  await waitFor(isDurable, { what: `${residentBytes} bytes to be durable`, timeoutMs: 60_000 });
}

/**
 * A mount's daemon that fails as long as a file exists: `EBB_FAIL_WHILE` names one whose daemons end at their start,
 * `EBB_CRASH_WHILE` one whose daemons die of a signal as soon as they have said that they take requests.
 */
import { existsSync } from 'node:fs';

if (existsSync(process.env['EBB_FAIL_WHILE'] ?? '')) process.exit(7);

const send = process.send?.bind(process);
process.send = (message: { readonly kind?: string }): boolean => {
  const isLast = message.kind === 'takingOver' && existsSync(process.env['EBB_CRASH_WHILE'] ?? '');
  const crash = (): boolean => process.kill(process.pid, 'SIGUSR2');
  return send?.(message, undefined, undefined, isLast ? crash : () => undefined) ?? false;
};
await import('../../src/daemon/main.ts');

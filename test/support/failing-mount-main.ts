/** A mount's daemon that ends at its start as long as a file exists: `EBB_FAIL_WHILE` names it. */
import { existsSync } from 'node:fs';

if (existsSync(process.env['EBB_FAIL_WHILE'] ?? '')) process.exit(7);
await import('../../src/daemon/main.ts');

/**
 * A tree's daemon that ends at its start as long as a file exists: `EBB_FAIL_WHILE` names it. `EBB_FAIL_ONCE` names
 * one that the first to find it removes.
 */
import { existsSync, rmSync } from 'node:fs';

const once = process.env['EBB_FAIL_ONCE'];
const isFirst = once !== undefined && existsSync(once);
if (isFirst) rmSync(once);
if (isFirst || existsSync(process.env['EBB_FAIL_WHILE'] ?? '')) process.exit(7);
await import('../../src/daemon/native-main.ts');

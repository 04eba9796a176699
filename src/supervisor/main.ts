/**
 * Entry point of a tree's supervisor, started by `ebb attach`. Lives until the tree was taken away (docs/native.md,
 * "Processes").
 */
import { attach } from './attach.ts';
import { runService } from './service.ts';

await runService(attach);

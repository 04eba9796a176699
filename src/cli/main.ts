/** Entry point of `ebb`. It imports nothing that not every verb needs. */
if (process.env['EBB_STARTED_AHEAD'] !== undefined) {
  (await import('./started-ahead.ts')).findStartedAhead();
}
const { runCommandLine } = await import('./command-line.ts');
await runCommandLine();

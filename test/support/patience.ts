/**
 * How many times longer than it says a limit of a test really is: limits say after what time something hangs, on the
 * machine of whoever wrote them. EBB_PATIENCE=1 while working on a test that hangs.
 */
export const patience = Number(process.env['EBB_PATIENCE'] ?? 4);

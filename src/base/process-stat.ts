/** What the kernel says of a process in /proc/PID/stat (proc_pid_stat(5)). Loads little: starts wait for its users. */
import { readFileSync } from './node-fs.ts';

/** Places in what `statFields` returns: three less than the number of the field in the man page. */
export const StatField = {
  state: 0,
  session: 3,
  userTicks: 11,
  systemTicks: 12,
  startTicks: 19,
  exitCode: 49,
} as const;

/** sysconf(_SC_CLK_TCK) is 100 wherever Node runs on Linux. */
export const clockTickMs = 10;

/** The fields after the command name, which may hold spaces and parentheses. Throws ENOENT, ESRCH: it has ended. */
export function statFields(pid: number | 'self'): readonly string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/**
 * The filter against machine code: a process with a foreign function library puts the server's filter on itself, closes
 * the gate and makes system calls by number. Prints what each returned, as JSON.
 */
import { writeSync } from 'node:fs';
import koffi from 'koffi';
import { serverFilter } from '../../../src/image/sandbox/filter.ts';
import { forbidNewPrivileges, installFilter } from '../../../src/sys/seccomp.ts';
import { socketPair } from '../../../src/sys/socket.ts';

const numbers: Readonly<Record<string, readonly [x64: number, arm64: number]>> = {
  open: [2, -1],
  openat: [257, 56],
  openat2: [437, 437],
  open_by_handle_at: [304, 265],
  name_to_handle_at: [303, 264],
  open_tree: [428, 428],
  stat: [4, -1],
  statx: [332, 291],
  newfstatat: [262, 79],
  readlinkat: [267, 78],
  getdents64: [217, 61],
  creat: [85, -1],
  unlinkat: [263, 35],
  renameat2: [316, 276],
  truncate: [76, 45],
  ftruncate: [77, 46],
  pwrite64: [18, 68],
  fallocate: [285, 47],
  copy_file_range: [326, 285],
  sendfile: [40, 71],
  splice: [275, 76],
  socket: [41, 198],
  socketpair: [53, 199],
  connect: [42, 203],
  bind: [49, 200],
  accept4: [288, 242],
  sendto: [44, 206],
  sendmmsg: [307, 269],
  recvmsg: [47, 212],
  execve: [59, 221],
  execveat: [322, 281],
  fork: [57, -1],
  vfork: [58, -1],
  clone: [56, 220],
  clone3: [435, 435],
  unshare: [272, 97],
  setns: [308, 268],
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  process_madvise: [440, 440],
  pidfd_open: [434, 434],
  pidfd_getfd: [438, 438],
  kill: [62, 129],
  tkill: [200, 130],
  tgkill: [234, 131],
  mount: [165, 40],
  umount2: [166, 39],
  fsopen: [430, 430],
  pivot_root: [155, 41],
  chroot: [161, 51],
  chdir: [80, 49],
  bpf: [321, 280],
  perf_event_open: [298, 241],
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  userfaultfd: [323, 282],
  memfd_create: [319, 279],
  keyctl: [250, 219],
  add_key: [248, 217],
  ioctl: [16, 29],
  fcntl: [72, 25],
  dup: [32, 23],
  dup3: [292, 24],
  prctl: [157, 167],
  seccomp: [317, 277],
  prlimit64: [302, 261],
  setuid: [105, 146],
  setresuid: [117, 147],
  capset: [126, 91],
  setns_mount_setattr: [442, 442],
  shmget: [29, 194],
  mq_open: [240, 180],
  inotify_init1: [294, 26],
  fanotify_init: [300, 262],
  timer_create: [222, 107],
  modify_ldt: [154, -1],
  iopl: [172, -1],
  init_module: [175, 105],
  kexec_load: [246, 104],
  reboot: [169, 142],
  swapon: [167, 224],
  personality: [135, 92],
};

const column = process.arch === 'arm64' ? 1 : 0;
const call = koffi
  .load(null)
  .func('long syscall(long number, void *a, void *b, void *c, void *d)') as (
  ...args: unknown[]
) => number;
const leave = koffi.load(null).func('void _exit(int code)') as (code: number) => void;
call(39, null, null, null, null); // getpid, so that everything is bound
const [left, right] = socketPair();
forbidNewPrivileges();
installFilter(serverFilter(right.fd)).close();
const results: Record<string, number> = {};
for (const [name, pair] of Object.entries(numbers)) {
  const number = pair[column] ?? -1;
  if (number < 0) continue;
  const result = call(number, null, null, null, null);
  results[name] = result < 0 ? koffi.errno() : -1;
}
// The message that carries the listener may go over the one descriptor only.
results[`sendmsg over another descriptor`] =
  call(column === 0 ? 46 : 211, null, null, null, null) < 0 ? koffi.errno() : -1;
writeSync(1, JSON.stringify(results));
left.close();
// Node cannot end in order any more: it would look at descriptors that it may not look at.
leave(0);

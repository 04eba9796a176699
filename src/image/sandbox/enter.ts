/**
 * Entry point of the process that becomes the server: it gives up everything, then replaces itself by a Node that never
 * had a foreign function library. Started by start.ts, in namespaces of its own where the system permits that.
 *
 * Inherited descriptors: see `InheritedFd`; device, image and notices are /dev/null until the broker says what the
 * server is to do (handover.ts), which is waited for when all other rights are given up. Argument: the script to run;
 * without one it ends when it is loaded (prime.ts).
 */
import path from 'node:path';
import { toEbbError } from '../../base/errors.ts';
import { readdirSync } from '../../base/node-fs.ts';
import { dropCapabilities } from '../../sys/capabilities.ts';
import { clearCloseOnExec, setCloseOnExec } from '../../sys/fd.ts';
import { dieWithParent, execute, limitResource, ResourceLimit } from '../../sys/execute.ts';
import { confineToPaths, LandlockRight } from '../../sys/landlock.ts';
import { forbidNewPrivileges, installFilter } from '../../sys/seccomp.ts';
import { sendFd } from '../../sys/socket.ts';
import { serverFilter } from './filter.ts';
import { receiveTask } from './handover.ts';
import { InheritedFd } from './inherited.ts';
import { codeCacheEnvironment, serverFlags } from './node-flags.ts';
import { takeOwnRoot } from './own-root.ts';

/**
 * Everything, reserved addresses included: bounds what is mapped, not what is used. Node 26 has 3.3 GiB of 4 when it
 * has started, and some starts end for want of more (docs/decisions/0023-a-gate-for-the-image-server.md).
 */
const addressSpaceMaxBytes = 16 * 1024 ** 3;
/** Private writable memory, buffers outside of V8's heap included: what a server can take from the machine. */
const dataMaxBytes = 2 * 1024 ** 3;
const openFilesMax = 64;
/** The only file that it can write to is the broker's log, behind what is there. */
const logMaxBytes = 16 * 1024 * 1024;

const root = path.join(import.meta.dirname, '../../..');
const { execute: mayExecute, readFile, readDirectory } = LandlockRight;
/** What a Node needs to start and to load our sources: programs and libraries, nothing of anybody's data. */
const readable = [
  { path: process.execPath, rights: mayExecute | readFile },
  ...['/lib', '/lib64', '/usr/lib', '/usr/lib64', '/etc/ld.so.cache'].map((each) => ({
    path: each,
    rights: each === '/etc/ld.so.cache' ? readFile : mayExecute | readFile | readDirectory,
  })),
  { path: path.join(root, 'src'), rights: readFile | readDirectory },
  { path: path.join(root, 'package.json'), rights: readFile },
];

const [script = ''] = process.argv.slice(2);
if (script === '') process.exit(0);
const extraReadable = process.env['EBB_SANDBOX_SCRIPTS'];
if (extraReadable !== undefined)
  readable.push({ path: extraReadable, rights: readFile | readDirectory });

/** Compiled code (code-cache.ts): nothing of anybody's data either. */
const codeCache = process.env['NODE_COMPILE_CACHE'];
if (codeCache !== undefined) readable.push({ path: codeCache, rights: readFile | readDirectory });

const compiledCode = Object.entries(
  codeCache === undefined ? {} : codeCacheEnvironment(codeCache),
).map(([name, value]) => `${name}=${value}`);

/**
 * What whoever mounts had open when he did is none of the server's business. Node keeps only the first descriptors from
 * its children, up to a number that is free.
 */
function closeAllOnExec(): void {
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      setCloseOnExec(Number(name));
    } catch (error) {
      // That of this listing.
      if (toEbbError(error).code !== 'EBADF') throw error;
    }
  }
}

dieWithParent();
closeAllOnExec();
limitResource(ResourceLimit.core, 0);
limitResource(ResourceLimit.fileSize, logMaxBytes);
limitResource(ResourceLimit.openFiles, openFilesMax);
limitResource(ResourceLimit.data, dataMaxBytes);
limitResource(ResourceLimit.addressSpace, addressSpaceMaxBytes);
if (process.env['EBB_SANDBOX_NAMESPACES'] === '1') takeOwnRoot(readable.map((each) => each.path));
dropCapabilities();
forbidNewPrivileges();
confineToPaths(readable);
const args = receiveTask(InheritedFd.broker);
for (const fd of [0, 1, 2, ...Object.values(InheritedFd)]) clearCloseOnExec(fd);
const program = serverFilter(InheritedFd.broker);
const listener = installFilter(program);
sendFd(InheritedFd.broker, listener.fd);
execute(
  process.execPath,
  [process.execPath, ...serverFlags, script, ...args],
  ['UV_USE_IO_URING=0', 'MALLOC_ARENA_MAX=2', 'OPENSSL_CONF=/nonexistent', ...compiledCode],
);

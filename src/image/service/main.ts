/**
 * Entry point of a service that serves one mount of one image to libfuse's mount program (docs/image.md). systemd
 * starts it for each connection, with the connection as descriptor 3 and without any rights
 * (setup/ebb-image@.service): there is nothing to keep a broker for. Ends with the mount; standard error says why.
 */
import { toEbbError } from '../../base/errors.ts';
import { outliveTheLog } from '../../base/service-process.ts';
import { OwnedFd } from '../../sys/fd.ts';
import { MountProgram } from './mount-program.ts';
import { serveForMountProgram } from './serve.ts';

const connectionFd = 3;

outliveTheLog();
using program = new MountProgram(new OwnedFd(connectionFd));
try {
  const why = await serveForMountProgram(program);
  if (why !== undefined) process.exitCode = 1;
  process.stderr.write(`image: ${why ?? 'unmounted'}\n`);
} catch (error) {
  program.bye(1);
  process.stderr.write(`image: ${toEbbError(error).message}\n`);
  process.exitCode = 1;
}

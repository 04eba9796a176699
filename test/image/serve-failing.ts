/** Serves an image where nothing can be mounted. Prints the errno, and whether the image is still open. */
import { readdirSync, readlinkSync } from 'node:fs';
import { toEbbError } from '../../src/base/errors.ts';
import { serveImage } from '../../src/image/broker/serve.ts';

const [imagePath = '', mountPoint = ''] = process.argv.slice(2);
const said = await serveImage({ imagePath, mountPoint, native: false, allowOther: false }).then(
  () => 'mounted',
  (error: unknown) => toEbbError(error).code,
);
const isOpen = readdirSync('/proc/self/fd').some((fd) => {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === imagePath;
  } catch {
    return false;
  }
});
console.log(said, isOpen ? 'open' : 'closed');

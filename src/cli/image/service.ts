/** The processes that mount images, each of which lives as long as its mount. */
import { isHttpUrl } from '../../base/http-url.ts';
import type { Program } from '../launch-service.ts';

/** setup/broker-ahead.sh chooses in the same way. */
export function imageService(image: string): Program {
  return isHttpUrl(image)
    ? { script: 'daemon/image/mount-main.ts', scriptVariable: 'EBB_IMAGE_REMOTE_MAIN' }
    : { script: 'image/broker/main.ts', scriptVariable: 'EBB_IMAGE_MAIN' };
}

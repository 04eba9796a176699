/** The processes that mount images, each of which lives as long as its mount. */
import { isHttpUrl } from '../../base/http-url.ts';
import { startAhead } from '../launch-service.ts';
import type { Program } from '../launch-service.ts';

export function imageService(image: string): Program {
  return isHttpUrl(image)
    ? { script: 'daemon/image/mount-main.ts', scriptVariable: 'EBB_IMAGE_REMOTE_MAIN' }
    : { script: 'image/broker/main.ts', scriptVariable: 'EBB_IMAGE_MAIN' };
}

/** `mount`, IMAGE and DIR: less is no mount. */
const wordsMin = 3;

/**
 * Starts the one that the arguments of `ebb image` look as if they wanted. Whether they do is known when the verb has
 * been loaded and has parsed them, and by then that process is nearly loaded as well.
 */
export function startImageServiceAhead(argv: readonly string[]): void {
  if (argv[0] !== 'mount' || argv.length < wordsMin || argv.includes('--help')) return;
  startAhead(imageService(argv.find((word) => isHttpUrl(word)) ?? ''));
}

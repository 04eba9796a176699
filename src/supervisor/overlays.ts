/**
 * Which directories an overlay is made of. It reaches them by clones of their mounts that no list of mounts has: they
 * stay when the mounts are taken away (Documentation/filesystems/overlayfs.rst).
 */
import { unescapeField } from '../base/mount-info.ts';
import type { MountInfo } from '../base/mount-info.ts';

const layerOptions: ReadonlySet<string> = new Set([
  'lowerdir',
  'lowerdir+',
  'datadir+',
  'upperdir',
  'workdir',
]);

/** The paths of all layers as they were given to mount(2); of other file systems none. */
export function layersOf({ fileSystemType, superOptions }: MountInfo): string[] {
  if (fileSystemType !== 'overlay') return [];
  return superOptions.split(',').flatMap((option) => {
    const [name = '', ...value] = option.split('=');
    if (!layerOptions.has(name)) return [];
    const text = unescapeField(value.join('='));
    return name === 'lowerdir' ? splitLayers(text) : [withoutBackslashes(text)];
  });
}

/** `a:b::c`: colons are between layers, two before those of data only; a backslash makes one part of a name. */
function splitLayers(text: string): string[] {
  const layers = text.match(/(?:\\.|[^:\\])+/gs) ?? [];
  return layers.map(withoutBackslashes);
}

function withoutBackslashes(text: string): string {
  return text.replaceAll(/\\(.)/gs, '$1');
}

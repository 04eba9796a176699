/** A part of a device as a device of its own: a partition. */
import { checkDeviceRange } from '../../ext4/block-device.ts';
import type { BlockDevice, DeviceRange } from '../../ext4/block-device.ts';
import { ebbError } from '../../base/errors.ts';

/** Throws EINVAL unless the part lies inside of the device. The whole device is returned as it is. */
export function sliceDevice(device: BlockDevice, { offsetBytes, sizeBytes }: DeviceRange) {
  if (offsetBytes === 0 && sizeBytes === device.sizeBytes) return device;
  if (
    !Number.isSafeInteger(offsetBytes) ||
    !(offsetBytes >= 0 && sizeBytes >= 0 && offsetBytes + sizeBytes <= device.sizeBytes)
  ) {
    throw ebbError(
      'EINVAL',
      `${sizeBytes} bytes at ${offsetBytes} are not inside of an image of ${device.sizeBytes} bytes.`,
    );
  }
  const slice: BlockDevice = {
    sizeBytes,
    read(at, into) {
      checkDeviceRange(slice, at, into.byteLength);
      device.read(offsetBytes + at, into);
    },
  };
  if (device.prefetch === undefined) return slice;
  return {
    ...slice,
    prefetch: (ranges: readonly DeviceRange[]) =>
      device.prefetch?.(
        ranges.map((range) => ({ ...range, offsetBytes: offsetBytes + range.offsetBytes })),
      ),
  };
}

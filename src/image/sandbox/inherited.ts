/**
 * The server's only ways to the world, by descriptor number; 0 is /dev/null, 1 and 2 are the broker's log. `notices`:
 * where the broker says by itself that a recall of a remote image has ended; /dev/null for local ones.
 */
export const InheritedFd = { device: 3, image: 4, broker: 5, notices: 6 } as const;

/** The server's first byte to the broker: its code is loaded, the gate may close. */
export const loadedByte = 0x4c;
/** The broker's first byte to the server: the gate is closed, untrusted bytes may be read. */
export const closedByte = 0x43;

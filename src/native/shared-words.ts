/** Memory that the event thread and main share: `NativeServer.pending`. */

/** Which 32-bit word is what. */
export const SharedWord = {
  /** Questions that main has not answered yet: counted up by the thread, down by main. */
  pending: 0,
  /** Whose turn it is (reading-turn.ts). */
  turn: 1,
  /** What the thread has done: events, and what main sent. Starts again from the smallest when it overflows. */
  steps: 2,
  /** Messages of the thread that main has not taken in (backlog.ts). */
  told: 3,
} as const;

export const sharedWordsBytes = 16;

/** One of them. */
export function sharedWord(shared: SharedArrayBuffer, word: keyof typeof SharedWord): Int32Array {
  return new Int32Array(shared, SharedWord[word] * Int32Array.BYTES_PER_ELEMENT, 1);
}

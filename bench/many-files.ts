/** Sources of many small files. */
import { mkdirSync, writeFileSync } from 'node:fs';

export const filesPerDirectory = 1_000;

/** `count` files in directories `d0`, `d1`, ... of 1,000. `text`: what is in the files of a directory. */
export function writeManyFiles(
  root: string,
  count: number,
  text: (directory: number, file: number) => string,
): void {
  for (let directory = 0; directory < count / filesPerDirectory; directory += 1) {
    const made = `${root}/d${directory}`;
    mkdirSync(made, { recursive: true });
    for (let file = 0; file < filesPerDirectory; file += 1) {
      writeFileSync(`${made}/f${file}`, text(directory, file));
    }
  }
}

/** A few bytes each. */
export function fewBytes(directory: number, file: number): string {
  return `${directory} ${file}\n`.repeat(10);
}

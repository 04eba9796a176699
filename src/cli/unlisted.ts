/** What `ls -R` and `find` say of directories that nobody has listed yet. */
import type { BriefFileInfo } from '../daemon/api.ts';
import type { Terminal } from './terminal.ts';
import { plural } from './units.ts';

/** The help of `--deep`. */
export const deepHelp =
  'Lists directories below PATH first that were never listed, or not within the time to live. One request each.';

export class Unlisted {
  readonly #verb: string;
  readonly #terminal: Terminal;
  #count = 0;

  constructor(verb: string, terminal: Terminal) {
    this.#verb = verb;
    this.#terminal = terminal;
  }

  see(info: BriefFileInfo): void {
    if (info.unlisted === true) this.#count += 1;
  }

  /** A sentence to a person, who may take what was shown for everything; scripts ask for `unlisted` in JSON. */
  tell(): void {
    if (this.#count === 0 || !this.#terminal.drawsProgress) return;
    const many = plural(this.#count, 'directory was', 'directories were');
    this.#terminal.warn(`ebb ${this.#verb}: ${many} never listed; --deep lists them`);
  }
}

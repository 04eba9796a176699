/**
 * Cleans the tree of files that a crash left behind: made, but gone from the catalog, or never in it. Runs in the
 * background after the start, slowly, while the daemon holds the cache's lock.
 *
 * A file with a row is never touched. One without a row goes, if it has no mark that was sealed for it; with a valid
 * mark it is content that was durable here, and becomes an orphan again, as `ebb rebuild` would have it.
 */
import { lstatSync, readdirSync, unlinkSync } from 'node:fs';
import path from 'node:path';
import { sleep } from '../../base/deadline.ts';
import { toEbbError } from '../../base/errors.ts';
import { decodeName } from '../../base/name.ts';
import { NodeKind } from '../../catalog/catalog.ts';
import { treePath } from '../../tree/layout.ts';
import { contentIdOf, inspectFile } from '../../tree/rebuild.ts';
import type { FoundContent } from '../../tree/rebuild.ts';
import type { Contents } from './contents.ts';
import type { Logbook } from '../logbook.ts';

/** The beginning of a mount belongs to its readers. */
const startDelayMs = 5_000;
/** Files looked at in one go, and the pause after it: at most 1,000 a second. */
const filesPerStep = 100;
const stepPauseMs = 100;

export interface LeftoversOptions {
  readonly contents: Contents;
  readonly logbook: Pick<Logbook, 'log'>;
  /** When this daemon began, ms since 1970: what it made or changed itself is left alone. */
  readonly startedAtMs: number;
  readonly startDelayMs?: number;
}

export interface LeftoversReport {
  readonly removed: number;
  readonly restored: number;
}

export class Leftovers {
  readonly #options: LeftoversOptions;
  readonly #closing = new AbortController();
  readonly #done: Promise<LeftoversReport | undefined>;
  #removed = 0;
  #restored = 0;

  constructor(options: LeftoversOptions) {
    this.#options = options;
    this.#done = this.#run().catch((error: unknown) => {
      if (!this.#closing.signal.aborted) {
        options.logbook.log('warn', `looking for leftover files: ${toEbbError(error).message}`);
      }
      return undefined;
    });
  }

  /** What was done, once all files were looked at; undefined when it was stopped or the disk failed. */
  get done(): Promise<LeftoversReport | undefined> {
    return this.#done;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#done;
  }

  async #run(): Promise<LeftoversReport> {
    const { contents, logbook } = this.#options;
    const { signal } = this.#closing;
    await sleep(this.#options.startDelayMs ?? startDelayMs, signal);
    let looked = 0;
    const tree = treePath(contents.store.directory);
    for (const directory of directoriesOf(tree)) {
      for (const file of filesOf(path.join(tree, directory))) {
        this.#look(file);
        looked += 1;
        if (looked % filesPerStep === 0) await sleep(stepPauseMs, signal);
      }
      await sleep(1, signal);
    }
    const [removed, restored] = [this.#removed, this.#restored];
    if (removed + restored > 0) {
      logbook.log('info', 'leftover files of a crash were cleaned up', { removed, restored });
    }
    return { removed, restored };
  }

  /** All of it in one turn of the event loop, so that nobody makes or deletes the content meanwhile. */
  #look(file: string): void {
    const { contents, startedAtMs, logbook } = this.#options;
    const { directory, identity } = contents.store;
    const id = contentIdOf(directory, file);
    if (id === undefined || !contents.isUnknown(id)) return;
    try {
      const facts = lstatSync(file);
      if (!facts.isFile() || facts.ctimeMs >= startedAtMs) return;
      const found = inspectFile(directory, file, identity);
      if ('content' in found) this.#restore(file, found.content);
      else if (found.isNobodys) this.#remove(file);
    } catch (error) {
      logbook.log('debug', `leftover ${file}: ${toEbbError(error).message}`);
    }
  }

  #restore(file: string, content: FoundContent): void {
    const { catalog } = this.#options.contents;
    const node = catalog.node(content.id);
    if (node === undefined) catalog.restoreOrphans([content]);
    else {
      const key = catalog
        .path(node.id)
        ?.map((name) => decodeName(name))
        .join('/');
      const isOfNode =
        node.kind === NodeKind.file &&
        node.version === content.version &&
        node.sizeBytes === content.sizeBytes &&
        key === content.key;
      // The id names something else now, whose content would replace this file anyway.
      if (!isOfNode) return this.#remove(file);
      catalog.putContent(content);
    }
    this.#restored += 1;
  }

  #remove(file: string): void {
    unlinkSync(file);
    this.#removed += 1;
  }
}

function directoriesOf(tree: string): string[] {
  return readdirSync(tree, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && /^[0-9a-f]+$/.test(entry.name))
    .map((entry) => entry.name);
}

function filesOf(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(directory, entry.name));
}

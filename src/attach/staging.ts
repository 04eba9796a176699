/** What a crash left in the staging directory. */
import { StubChange } from '../base/stub-facts.ts';
import type { StubCatalog } from '../catalog/stub-catalog.ts';
import { removeFile } from '../sys/entries.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import { fileStatus } from '../sys/stat.ts';
import type { StubStore } from '../tree/stubs/stub-store.ts';
import { readEntries } from './local-directory.ts';

/**
 * Deletes the stubs of an interrupted run that never got their names, or lost them to a new version. Everything else
 * stays: a crash between two renames may have left a user's file here. Before the first run only.
 */
export async function sweepStaging(store: StubStore, catalog: StubCatalog): Promise<void> {
  for await (const entry of readEntries(store.stagingFd)) {
    if (!entry.isFile()) continue;
    const flags = OpenFlag.rdonly | OpenFlag.nofollow | OpenFlag.nonblock | OpenFlag.noatime;
    using file = openFd(entry.name, flags, 0, store.stagingFd);
    const facts = store.factsOfMark(file.fd);
    if (facts === undefined || facts.change !== StubChange.clean) continue;
    const record = catalog.byHandle(facts.handle);
    if (record !== undefined && (record.change !== StubChange.clean || record.lost)) continue;
    // A further name of a hard link: the file itself is in its place.
    const isLastName = fileStatus(file.fd).nlink === 1;
    removeFile(store.stagingFd, entry.name);
    if (record !== undefined && isLastName) catalog.delete([record.id]);
  }
}

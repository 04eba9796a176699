/**
 * One program's way through the tree, and what lies ahead of it. `find`, `tar`, `ls -lR`, `cp -r` come by in the order
 * of the listings, each directory's contents where the directory stands (preorder). So what they will need next is
 * known as far as names are known, and each listing that arrives makes more known. Pure: steps in, ids out.
 *
 * At most `window` listings and `window` files are asked for that the walker has not come to. The window doubles while
 * the walker comes to what was asked for, and shrinks when it passes directories by without entering them
 * (`find -maxdepth`).
 */
import { NodeKind, ROOT_NODE_ID } from '../catalog/catalog.ts';
import type { Node } from '../catalog/catalog.ts';
import type { WalkKind } from './walk-steps.ts';

/** What a walk must know of the tree. */
export interface WalkTree {
  node(id: number): Node | undefined;
  /** As `CatalogReader.children`. */
  children(directoryId: number, afterId: number, limit: number): readonly Node[];
  /** Whether whoever enters the directory now has to wait for its listing. */
  needsListing(directory: Node): boolean;
}

/** What to fetch ahead, in the order in which it will be needed. */
export interface Ahead {
  readonly directoryIds: number[];
  /** Files whose exact facts are wanted. */
  readonly factIds: number[];
  /** Small files whose content is wanted. */
  readonly contentIds: number[];
}

export interface TreeWalkLimits {
  /** Listings, and files, asked for that the walker has not come to: at first ... */
  readonly windowInitial: number;
  /** ... at least ... */
  readonly windowMin: number;
  /** ... and at most. */
  readonly windowMax: number;
  /** Content of files asked for that the walker has not come to. */
  readonly bytesMax: number;
  /** Larger files are not fetched on suspicion. */
  readonly fileMaxBytes: number;
  /** Rows of the catalog that one step may look at. */
  readonly rowsPerStepMax: number;
  /** Directories remembered as part of the walk. */
  readonly coveredMax: number;
}

export const defaultTreeWalkLimits: TreeWalkLimits = Object.freeze({
  windowInitial: 16,
  windowMin: 4,
  windowMax: 256,
  bytesMax: 16 * 1024 * 1024,
  fileMaxBytes: 1024 * 1024,
  rowsPerStepMax: 512,
  coveredMax: 4_096,
});

const rowsPerPage = 64;

/** Ids from the root (itself left out) down to an entry. */
type Place = readonly number[];

/** How far a directory's entries have been looked at. */
interface Cursor {
  readonly directoryId: number;
  readonly place: Place;
  afterId: number;
}

interface AskedFile {
  readonly id: number;
  readonly bytes: number;
}

interface AskedFiles {
  readonly place: Place;
  readonly files: AskedFile[];
}

/** After some rows: go on behind them, in one of them that is a directory, or not at all. */
type Looked = 'on' | 'down' | 'enough';

export class TreeWalk {
  readonly #tree: WalkTree;
  readonly #limits: TreeWalkLimits;
  #wants: WalkKind;
  /** Whether the walker goes down into directories: only then what lies below is looked at. */
  #descends = false;
  /** The last one is the next in the walker's order. */
  #cursors: Cursor[] = [];
  /** Directories whose listing was asked for and has not come. */
  readonly #awaited = new Map<number, Place>();
  /** Directories whose listing was asked for and that the walker has not come to. */
  readonly #directories = new Map<number, Place>();
  /** The same of files, by directory and there in order. */
  readonly #files = new Map<number, AskedFiles>();
  /** Directories that have, or had, a cursor, or will get one. */
  readonly #covered = new Set<number>();
  #filesAsked = 0;
  #bytesAsked = 0;
  #window: number;
  #here: Place = [];
  #directoryId = 0;

  constructor(tree: WalkTree, wants: WalkKind, limits: TreeWalkLimits = defaultTreeWalkLimits) {
    this.#tree = tree;
    this.#wants = wants;
    this.#limits = limits;
    this.#window = limits.windowInitial;
  }

  get wants(): WalkKind {
    return this.#wants;
  }

  /** The walker has entered a directory. `mayClimb`: whether it has entered this one, too, and will come back to it. */
  entered(directory: Node, mayClimb: (directoryId: number) => boolean): Ahead {
    if (mayClimb(directory.parentId)) this.#descends = true;
    const place = this.#placeOf(directory.id);
    const asked = this.#directories.delete(directory.id);
    this.#directoryId = directory.id;
    const passedBy = this.#moveTo([...place, 0]);
    if (passedBy > 0) this.#resize(0.5);
    else if (asked) this.#resize(2);
    if (!this.#covered.has(directory.id)) this.#startAt(directory.id, 0, mayClimb);
    return this.#look();
  }

  /** The walker has come to a file of a directory. */
  came(file: Node, mayClimb: (directoryId: number) => boolean): Ahead {
    if (!this.#covered.has(file.parentId)) this.#startAt(file.parentId, file.id, mayClimb);
    else if (file.parentId === this.#directoryId) {
      const cursor = this.#cursors.findLast((one) => one.directoryId === file.parentId);
      if (cursor !== undefined) cursor.afterId = Math.max(cursor.afterId, file.id);
    } else {
      this.#directoryId = file.parentId;
      this.#moveTo([...this.#placeOf(file.parentId), file.id]);
    }
    if (this.#passFiles(file.parentId, file.id)) this.#resize(2);
    return this.#look();
  }

  /** From now on it wants more than before, of what it comes to from this file on. */
  want(kind: WalkKind, file: Node, mayClimb: (directoryId: number) => boolean): Ahead {
    this.#wants = kind;
    for (const [directoryId] of this.#files) this.#dropFiles(directoryId);
    this.#startAt(file.parentId, file.id, mayClimb);
    return this.#look();
  }

  /** A listing came. Undefined: this walk did not wait for it. */
  arrived(directoryId: number): Ahead | undefined {
    const place = this.#awaited.get(directoryId);
    if (place === undefined) return undefined;
    this.#awaited.delete(directoryId);
    if (!isBefore(place, this.#here)) this.#insert({ directoryId, place, afterId: 0 });
    return this.#look();
  }

  /** Begins anew in a directory, and goes on in those above it that the walker is in. */
  #startAt(directoryId: number, afterId: number, mayClimb: (id: number) => boolean): void {
    const place = this.#placeOf(directoryId);
    this.#directoryId = directoryId;
    this.#here = [...place, afterId];
    this.#cursors = [];
    this.#insert({ directoryId, place, afterId });
    let childId = directoryId;
    for (let depth = place.length - 1; depth >= 0; depth -= 1) {
      const parentId = depth === 0 ? ROOT_NODE_ID : (place[depth - 1] ?? ROOT_NODE_ID);
      if (!mayClimb(parentId)) break;
      this.#descends = true;
      this.#insert({ directoryId: parentId, place: place.slice(0, depth), afterId: childId });
      childId = parentId;
    }
    this.#forgetElsewhere();
  }

  /** What was asked for outside of where the walk goes on will not be come to. */
  #forgetElsewhere(): void {
    const top = this.#cursors[0]?.place ?? [];
    for (const [id, place] of this.#directories) {
      if (startsWith(place, top) && !isBefore(place, this.#here)) continue;
      this.#directories.delete(id);
      this.#awaited.delete(id);
    }
    for (const [id, { place }] of this.#files) {
      if (!startsWith(place, top) || isBefore(place, this.#here)) this.#dropFiles(id);
    }
  }

  /** Takes note of where the walker is. Returns how many directories it has passed by that were listed for it. */
  #moveTo(here: Place): number {
    this.#here = here;
    let passedBy = 0;
    for (const [id, place] of this.#directories) {
      if (!isBefore(place, here)) continue;
      this.#directories.delete(id);
      passedBy += 1;
    }
    for (const [id, { place }] of this.#files) {
      if (isBefore(place, here)) this.#dropFiles(id);
      else if (startsWith(here, place)) this.#passFiles(id, (here[place.length] ?? 0) - 1);
    }
    this.#cursors = this.#cursors.filter(({ place }) => !isBefore(place, here));
    for (const cursor of this.#cursors) {
      if (!startsWith(here, cursor.place)) continue;
      cursor.afterId = Math.max(cursor.afterId, here[cursor.place.length] ?? 0);
    }
    return passedBy;
  }

  /** Files up to this one lie behind the walker. True when the last of them was asked for. */
  #passFiles(directoryId: number, id: number): boolean {
    const asked = this.#files.get(directoryId);
    if (asked === undefined) return false;
    let isHit = false;
    while (asked.files[0] !== undefined && asked.files[0].id <= id) {
      const file = asked.files.shift();
      isHit = file?.id === id;
      this.#filesAsked -= 1;
      this.#bytesAsked -= file?.bytes ?? 0;
    }
    if (asked.files.length === 0) this.#files.delete(directoryId);
    return isHit;
  }

  #dropFiles(directoryId: number): void {
    this.#passFiles(directoryId, Number.MAX_SAFE_INTEGER);
  }

  #resize(factor: number): void {
    const { windowMin, windowMax } = this.#limits;
    this.#window = Math.min(windowMax, Math.max(windowMin, Math.floor(this.#window * factor)));
  }

  /** Goes on in front of the walker until enough is asked for. */
  #look(): Ahead {
    const ahead: Ahead = { directoryIds: [], factIds: [], contentIds: [] };
    const asked = this.#wants === 'list' ? this.#directories.size : this.#filesAsked;
    // In few large steps: each begins with reading rows.
    if (asked > this.#window / 2) return ahead;
    let rowsLeft = this.#limits.rowsPerStepMax;
    let result: Looked = 'on';
    while (rowsLeft > 0 && result !== 'enough') {
      const cursor = this.#cursors.at(-1);
      if (cursor === undefined) break;
      const limit = Math.min(rowsPerPage, rowsLeft);
      const rows = this.#tree.children(cursor.directoryId, cursor.afterId, limit);
      rowsLeft -= Math.max(1, rows.length);
      result = this.#takeRows(cursor, rows, ahead);
      if (result === 'on' && rows.length < limit) {
        this.#cursors = this.#cursors.filter((one) => one !== cursor);
      }
    }
    return ahead;
  }

  #takeRows(cursor: Cursor, rows: readonly Node[], ahead: Ahead): Looked {
    for (const row of rows) {
      const { bytesMax } = this.#limits;
      if (this.#filesAsked >= this.#window || this.#bytesAsked >= bytesMax) return 'enough';
      if (row.kind === NodeKind.file) this.#takeFile(cursor, row, ahead);
      if (row.kind === NodeKind.directory && this.#descends && !this.#awaited.has(row.id)) {
        const needsListing = this.#tree.needsListing(row);
        if (needsListing && this.#directories.size >= this.#window) return 'enough';
        const place = [...cursor.place, row.id];
        this.#cover(row.id);
        if (!needsListing) {
          cursor.afterId = row.id;
          this.#insert({ directoryId: row.id, place, afterId: 0 });
          return 'down';
        }
        ahead.directoryIds.push(row.id);
        this.#awaited.set(row.id, place);
        this.#directories.set(row.id, place);
      }
      cursor.afterId = row.id;
    }
    return 'on';
  }

  #takeFile(cursor: Cursor, file: Node, ahead: Ahead): void {
    let bytes = 0;
    if (this.#wants === 'open') {
      if (file.sizeBytes < 0 || file.sizeBytes > this.#limits.fileMaxBytes) return;
      bytes = file.sizeBytes;
      ahead.contentIds.push(file.id);
    } else {
      if (this.#wants === 'list' || file.exact) return;
      ahead.factIds.push(file.id);
    }
    let asked = this.#files.get(cursor.directoryId);
    if (asked === undefined) {
      asked = { place: cursor.place, files: [] };
      this.#files.set(cursor.directoryId, asked);
    }
    asked.files.push({ id: file.id, bytes });
    this.#filesAsked += 1;
    this.#bytesAsked += bytes;
  }

  #insert(cursor: Cursor): void {
    this.#cover(cursor.directoryId);
    let index = this.#cursors.length;
    while (index > 0 && comesBefore(this.#cursors[index - 1] as Cursor, cursor)) index -= 1;
    this.#cursors.splice(index, 0, cursor);
  }

  #cover(directoryId: number): void {
    if (this.#covered.size >= this.#limits.coveredMax) {
      for (const oldest of this.#covered) {
        this.#covered.delete(oldest);
        break;
      }
    }
    this.#covered.add(directoryId);
  }

  #placeOf(id: number): Place {
    const place: number[] = [];
    let node = this.#tree.node(id);
    while (node !== undefined && node.id !== ROOT_NODE_ID && node.parentId !== 0) {
      place.unshift(node.id);
      node = this.#tree.node(node.parentId);
    }
    return place;
  }
}

/** Whether all below `place` is come by before `here`; a directory that `here` is in is not. */
function isBefore(place: Place, here: Place): boolean {
  const length = Math.min(place.length, here.length);
  for (let index = 0; index < length; index += 1) {
    const difference = (place[index] ?? 0) - (here[index] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

function startsWith(place: Place, start: Place): boolean {
  return start.every((id, index) => place[index] === id);
}

/** Of two directories the one inside comes first: the rest of the outer one comes after it. */
function comesBefore(a: Cursor, b: Cursor): boolean {
  if (startsWith(a.place, b.place)) return a.place.length > b.place.length;
  return isBefore(a.place, b.place);
}

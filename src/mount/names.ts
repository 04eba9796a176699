/**
 * LOOKUP, by name and by file handle: what the catalog knows well enough is answered at once, the rest becomes a
 * question to main, after which the catalog is looked at again.
 */
import { Errno } from '../base/errno.ts';
import { NodeKind } from '../catalog/catalog.ts';
import type { Node } from '../catalog/catalog.ts';
import type { Call } from '../fuse/filesystem.ts';
import type { Requester } from '../recall/recall.ts';
import { entryOf } from './attributes.ts';
import { ask, requesterOf } from './asking.ts';
import { immediately } from './answerer.ts';
import type { Answerer } from './answerer.ts';
import { handleName } from './handle-names.ts';
import type { ListingReaders } from './listing-readers.ts';
import type { Question } from './messages.ts';
import type { NodeView } from './node-view.ts';
import type { MountServices } from './services.ts';

/** What was already asked for one LOOKUP, so that no answer can make it ask for ever. */
interface AskedForName {
  readonly listed: boolean;
  /** Nodes that the remote was asked about: each once. */
  readonly checkedIds: readonly number[];
}

const nothingAsked: AskedForName = { listed: false, checkedIds: [] };
/** A name that changes its node more often than this while it is looked up is answered EIO. */
const checksPerLookupMax = 4;

export class Names {
  readonly #services: MountServices;
  readonly #readers: ListingReaders;

  constructor(services: MountServices, readers: ListingReaders) {
    this.#services = services;
    this.#readers = readers;
  }

  lookup(call: Call, parentId: number, name: Uint8Array): void {
    const asked = handleName(name);
    if (asked !== undefined) return this.#lookupHandle(call, parentId, asked);
    this.#lookup(immediately(call), call, requesterOf(call), parentId, name, nothingAsked);
  }

  #lookup(
    answer: Answerer,
    call: Call | undefined,
    who: Requester,
    parentId: number,
    name: Uint8Array,
    asked: AskedForName,
  ): void {
    const { view } = this.#services;
    let parent = view.node(parentId);
    let child = childIn(view, parent, name);
    if (asked === nothingAsked && parent !== undefined && !this.#isSettled(parent, child)) {
      // It may have come with a prefetch that this thread has not heard of yet.
      this.#services.bridge.drain();
      parent = view.node(parentId);
      child = childIn(view, parent, name);
    }
    if (parent === undefined || !view.isNamed(parent)) return void answer.error(Errno.ESTALE);
    let question = this.#lookupQuestion(parent, child, asked);
    const trustMs = question === undefined ? 0 : this.#trustMs(question, parent, child, who);
    if (question !== undefined && trustMs === 0) {
      if (question.kind === 'resolve' && child !== undefined) {
        const { walk } = this.#services;
        walk.looked(child, who);
        if (walk.wantsContents(who)) question = { ...question, withContent: true };
      }
      const kept = name.slice();
      if (question.kind === 'list') {
        const mayBeAnswered = call === undefined ? {} : { resent: call.resent };
        question = { ...question, name: kept, ...mayBeAnswered };
      }
      const asking =
        question.kind === 'list'
          ? { ...asked, listed: true }
          : { ...asked, checkedIds: [...asked.checkedIds, question.nodeId] };
      ask(this.#services, answer, call, who, question, (later, reply) => {
        // Another version or a vanished name is an answer, too: look again at what the catalog says now.
        const settled =
          reply.errno === 0 || reply.errno === Errno.ESTALE || reply.errno === Errno.ENOENT;
        if (!settled) return void later.error(reply.errno);
        this.#lookup(later, undefined, who, parentId, kept, asking);
      });
      return;
    }
    if (child === undefined) {
      const timeoutMs = view.remainingMs(parent.listedAtMs);
      if (timeoutMs === 0) return void answer.error(Errno.ENOENT);
      return void answer.negative(timeoutMs);
    }
    if (child.kind === NodeKind.file && !child.exact) return void answer.error(Errno.EIO);
    this.#answerEntry(answer, child, trustMs);
  }

  /** Above 0 the question can be spared: who asks is reading the directory, and this is the next name. */
  #trustMs(question: Question, parent: Node, child: Node | undefined, who: Requester): number {
    // Facts that the listing did not tell are asked for.
    if (child === undefined || question.kind === 'resolve') return 0;
    const reader = this.#readers.find(parent.id, who.pid);
    return reader?.comesTo(child.id) === true ? reader.trustMs : 0;
  }

  /** The kernel has a file handle of a node that it has forgotten, and wants the node or its directory. */
  #lookupHandle(call: Call, nodeId: number, asked: 'self' | 'parent'): void {
    const { view, staleHandles } = this.#services;
    let node = view.node(nodeId);
    if (node !== undefined && !view.isNamed(node)) node = undefined;
    if (node !== undefined && asked === 'parent' && node.parentId !== 0) {
      node = view.node(node.parentId);
    }
    if (node === undefined) {
      if (staleHandles !== undefined) Atomics.add(staleHandles, 0, 1);
      return void call.error(Errno.ESTALE);
    }
    this.exactly(call, node, (answer, exact) => this.#answerEntry(answer, exact, 0));
  }

  #answerEntry(answer: Answerer, node: Node, timeoutLeastMs: number): void {
    const { view, defaults, generations } = this.#services;
    const timeoutMs = Math.max(timeoutLeastMs, view.nodeTimeoutMs(node));
    answer.entry(entryOf(node, generations.of(node.id), defaults, timeoutMs));
  }

  #isSettled(parent: Node, child: Node | undefined): boolean {
    return child === undefined ? this.#services.view.isListingFresh(parent) : child.exact;
  }

  /** What must be asked before a lookup can be answered; undefined when the catalog knows enough. */
  #lookupQuestion(
    parent: Node,
    child: Node | undefined,
    asked: AskedForName,
  ): Question | undefined {
    const { view } = this.#services;
    const listingFresh = view.isListingFresh(parent);
    if (child === undefined || child.kind !== NodeKind.file) {
      if (listingFresh || asked.listed) return undefined;
      return { kind: 'list', directoryId: parent.id };
    }
    const checks = asked.checkedIds.length;
    if (asked.checkedIds.includes(child.id)) return undefined;
    // A listing may have given the name a new node, with rounded facts, while the old one was asked about.
    if (!child.exact && checks < checksPerLookupMax) return { kind: 'resolve', nodeId: child.id };
    if (checks > 0 || listingFresh || view.isVersionFresh(child)) return undefined;
    return { kind: 'revalidate', nodeId: child.id };
  }

  /** `answered` gets the node with facts that may be shown: at once, or when the remote was asked. */
  exactly(call: Call, node: Node, answered: (answer: Answerer, exact: Node) => void): void {
    if (node.kind !== NodeKind.file || node.exact) return answered(immediately(call), node);
    const question = { kind: 'resolve', nodeId: node.id } as const;
    ask(this.#services, immediately(call), call, requesterOf(call), question, (later, reply) => {
      const resolved = this.#services.view.node(node.id);
      if (reply.errno !== 0) return void later.error(reply.errno);
      if (resolved === undefined || !resolved.exact) return void later.error(Errno.ESTALE);
      answered(later, resolved);
    });
  }
}

/** A directory that was never listed may hold some names of a listing that is under way, and nobody counts on them. */
function childIn(view: NodeView, parent: Node | undefined, name: Uint8Array): Node | undefined {
  if (parent === undefined || parent.listedAtMs === 0) return undefined;
  return view.child(parent.id, name);
}

/** A namespace over the in-memory catalog, a clock that the test owns, and a remote of the test's choice. */
import assert from 'node:assert/strict';
import { ManualClock } from '../../src/base/clock.ts';
import { encodeName } from '../../src/base/name.ts';
import { ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import type { Node } from '../../src/catalog/catalog.ts';
import { MemoryCatalog } from '../../src/catalog/memory/catalog.ts';
import { Namespace } from '../../src/recall/namespace/namespace.ts';
import type { NamespaceChange } from '../../src/recall/namespace/namespace-options.ts';
import type { Remote } from '../../src/remote/remote.ts';

export interface NamespaceScene<Origin extends Remote> {
  readonly remote: Origin;
  readonly catalog: MemoryCatalog;
  readonly clock: ManualClock;
  readonly namespace: Namespace;
  readonly changes: NamespaceChange[];
  /** A node of the root that must be known. */
  readonly child: (name: string) => Node;
}

export function namespaceScene<Origin extends Remote>(
  remote: Origin,
  ttlMs: number,
): NamespaceScene<Origin> {
  const catalog = new MemoryCatalog();
  const clock = new ManualClock();
  const changes: NamespaceChange[] = [];
  const namespace = new Namespace({
    catalog,
    remote,
    clock,
    ttlMs,
    deadlineMs: 5_000,
    onChange: (change) => changes.push(change),
    onProblem: () => undefined,
  });
  const child = (name: string): Node => {
    const node = catalog.child(ROOT_NODE_ID, encodeName(name));
    assert.ok(node, `${name} is known`);
    return node;
  };
  return { remote, catalog, clock, namespace, changes, child };
}

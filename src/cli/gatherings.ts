/** Questions that the parent puts to several children at once, for the one of them that asked. */

import type { Figures } from "./process-messages.ts";

/** Prometheus waits ten seconds for a scrape; a child that is busy for longer than this is left out of it. */
const PATIENCE_MS = 3_000;

interface Gathering<Child> {
  readonly waiting: Set<Child>;
  readonly figures: Figures[];
  done(): void;
}

export class Gatherings<Child> {
  readonly #open = new Map<number, Gathering<Child>>();
  #lastId = 0;

  /** Asks these children and gives what they answer; who ends or takes too long is left out. */
  async begin(children: readonly Child[], ask: (child: Child, id: number) => void): Promise<Figures[]> {
    const id = ++this.#lastId;
    const { promise, resolve } = Promise.withResolvers<void>();
    const gathering = { waiting: new Set(children), figures: [], done: resolve };
    if (children.length === 0) return gathering.figures;
    this.#open.set(id, gathering);
    const timer = setTimeout(resolve, PATIENCE_MS);
    for (const child of children) ask(child, id);
    await promise;
    clearTimeout(timer);
    this.#open.delete(id);
    return gathering.figures;
  }

  add(child: Child, id: number, figures: Figures): void {
    const gathering = this.#open.get(id);
    if (!gathering?.waiting.delete(child)) return;
    gathering.figures.push(figures);
    if (gathering.waiting.size === 0) gathering.done();
  }

  /** The child is gone. */
  leave(child: Child): void {
    for (const gathering of this.#open.values()) {
      if (gathering.waiting.delete(child) && gathering.waiting.size === 0) gathering.done();
    }
  }
}

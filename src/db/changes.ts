/**
 * What follows a commit inside this process: listeners hear which cached keys changed, then the transaction's own effects
 * run. How other processes hear of it is up to the engine.
 */

import type { DatabaseLog } from "./options.ts";

export type ChangeListener = (keys: readonly string[] | undefined) => void;

/** The subscribers of one open database. */
export class ChangeListeners {
  readonly #listeners = new Set<ChangeListener>();
  readonly #log: DatabaseLog;

  constructor(log: DatabaseLog) {
    this.#log = log;
  }

  add(listener: ChangeListener): () => void {
    // Wrapped, so that one function may subscribe twice and end each subscription by itself.
    const own: ChangeListener = (keys) => listener(keys);
    this.#listeners.add(own);
    return () => {
      this.#listeners.delete(own);
    };
  }

  /** Tells every listener. What one throws is logged and does not keep the others from hearing. */
  deliver(keys: readonly string[] | undefined): void {
    for (const listener of this.#listeners) {
      try {
        listener(keys);
      } catch (error) {
        this.#log.warn("A listener for database changes failed.", { error: String(error) });
      }
    }
  }
}

/** What one transaction wants to happen after its commit. */
export class PendingEffects {
  readonly keys = new Set<string>();
  readonly #effects: (() => void)[] = [];

  add(effect: () => void): void {
    this.#effects.push(effect);
  }

  /** Runs after the commit. It cannot fail: the commit has happened, and the caller must hear of that. */
  run(listeners: ChangeListeners, log: DatabaseLog): void {
    if (this.keys.size > 0) listeners.deliver([...this.keys]);
    for (const effect of this.#effects) {
      try {
        effect();
      } catch (error) {
        log.warn("What should follow a committed transaction failed.", { error: String(error) });
      }
    }
  }
}

/**
 * Hono's router with /v2 taken out of its matching: everything below /v2 has one handler, which reads the path itself by
 * the grammar of repository names. Matching it against the table of all other routes, and composing their middleware,
 * was a tenth of what a cached pull costs.
 */

import type { Result, Router } from "hono/router";
import { RegExpRouter } from "hono/router/reg-exp-router";
import { SmartRouter } from "hono/router/smart-router";
import { TrieRouter } from "hono/router/trie-router";

/** The path under which the registry's one handler is mounted. */
export const REGISTRY_MOUNT = "/v2";

export class RegistryFirstRouter<T> implements Router<T> {
  readonly name = "RegistryFirstRouter";
  readonly #others = new SmartRouter<T>({ routers: [new RegExpRouter(), new TrieRouter()] });
  #registry: Result<T> | undefined;

  /** Throws when a second handler is mounted under /v2. */
  add(method: string, path: string, handler: T): void {
    if (path !== REGISTRY_MOUNT) {
      this.#others.add(method, path, handler);
      return;
    }
    if (this.#registry) throw new Error(`${REGISTRY_MOUNT} has one handler for every method`);
    this.#registry = [[[handler, {}]]];
  }

  match(method: string, path: string): Result<T> {
    const isRegistry = path.startsWith("/v2") && (path.length === 3 || path.charCodeAt(3) === SLASH);
    return isRegistry && this.#registry ? this.#registry : this.#others.match(method, path);
  }
}

const SLASH = 47;

/**
 * Makes the leases of blobs end early, so that collection and pushes meet within seconds instead of minutes. What a lease is
 * for is kept: one of a digest that is just being pushed is left alone, and no push begins while leases are made to end.
 */
import type { Database } from "../../../src/db/db.ts";

export class Leases {
  readonly #pushing = new Map<string, number>();
  readonly #isSteady: () => Promise<void>;
  #ageing: Promise<void> = Promise.resolve();

  /** `isSteady` resolves when no server is down. */
  constructor(isSteady: () => Promise<void>) {
    this.#isSteady = isSteady;
  }

  steady(): Promise<void> {
    return this.#isSteady();
  }

  /** Runs a push of this digest. */
  async pushing<T>(digest: string, push: () => Promise<T>): Promise<T> {
    await this.#ageing;
    this.#pushing.set(digest, (this.#pushing.get(digest) ?? 0) + 1);
    try {
      return await push();
    } finally {
      const left = (this.#pushing.get(digest) ?? 1) - 1;
      if (left === 0) this.#pushing.delete(digest);
      else this.#pushing.set(digest, left);
    }
  }

  /** Ends the leases of all blobs that nobody pushes now. Of a blob that is being deleted it is the collector's, and stays. */
  age(db: Database): Promise<void> {
    this.#ageing = this.#end(db).catch(() => undefined);
    return this.#ageing;
  }

  async #end(db: Database): Promise<void> {
    const pushed = [...this.#pushing.keys()];
    await db.tx(async (tx) => {
      await tx.sql`/* chaos.age */
        update blob set lease_until_ms = 1
        where state = 'live' and lease_until_ms > 1 and not (${tx.dialect.inList("digest", pushed)})`;
    });
  }
}

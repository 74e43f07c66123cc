/**
 * Wrong passwords under names that nobody has, so that these lock out as others do: on every instance, since each failure is
 * told with `tx.changed`. The counts are in memory alone, bounded, and forgotten with the process.
 */

import type { Database } from "../../db/db.ts";
import type { Clock } from "../../lib/clock.ts";
import { Lru } from "../../lib/lru.ts";
import type { Account } from "./account.ts";

/** Wrong passwords in a row. */
export type Failures = Pick<Account, "failedLogins" | "lastFailedLoginMs">;

/** What `tx.changed` of a failure begins with. */
export const FAILED_LOGIN = "failed-login:";
const NAMES_MAX = 10_000;

export interface FailedNamesOptions {
  readonly db: Pick<Database, "onChanged">;
  readonly clock: Clock;
  /** Shared by the instances: names do not travel in the clear. */
  readonly secretKey: string;
}

export class FailedNames {
  readonly #failures = new Lru<string, Failures>(NAMES_MAX);
  readonly #options: FailedNamesOptions;

  constructor(options: FailedNamesOptions) {
    this.#options = options;
    options.db.onChanged((keys) => {
      for (const key of keys ?? []) if (key.startsWith(FAILED_LOGIN)) this.#count(key);
    });
  }

  /** For `tx.changed` in the transaction that notes a failure, be the name somebody's or not. */
  keyOf(name: string): string {
    const hash = new Bun.CryptoHasher("sha256", this.#options.secretKey).update(`failed-login ${name}`);
    return FAILED_LOGIN + hash.digest("base64url");
  }

  find(name: string): Failures | undefined {
    return this.#failures.get(this.keyOf(name));
  }

  /** By our own clock: another instance's may be a minute off. */
  #count(key: string): void {
    const failedLogins = (this.#failures.get(key)?.failedLogins ?? 0) + 1;
    this.#failures.set(key, { failedLogins, lastFailedLoginMs: this.#options.clock.nowMs() });
  }
}

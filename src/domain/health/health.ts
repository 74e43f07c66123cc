/**
 * What the health endpoints tell: Quay's service names and their meaning. Each check is remembered for a moment, so that
 * any number of load balancers may ask every second. Source: quay-behaviour reference, section 18.
 */

import type { App } from "../../app.ts";
import type { Clock } from "../../lib/clock.ts";

export interface HealthReport {
  readonly healthy: boolean;
  readonly services: Record<string, boolean>;
  /** Why a service is false, for those who may see details. */
  readonly failures: Record<string, string>;
}

type HealthApp = Pick<App, "config" | "db" | "storage" | "clock" | "state" | "tokenKeys">;
type Check = () => Promise<void>;

/** Answers younger than this are given again. */
const FRESH_MS = 500;
const DATABASE_TIMEOUT_MS = 2000;

export class Health {
  readonly #app: HealthApp;
  readonly #database: Check;
  readonly #storage: Check;
  readonly #space: () => Promise<number | undefined>;

  constructor(app: HealthApp) {
    this.#app = app;
    this.#database = remembered(app.clock, () => app.db.ping(DATABASE_TIMEOUT_MS));
    this.#storage = remembered(app.clock, () => app.storage.check());
    this.#space = remembered(app.clock, async () => {
      const space = await app.storage.preferred.driver.space();
      return space && space.totalBytes > 0 ? space.freeBytes / space.totalBytes : undefined;
    });
  }

  /** This instance: 503 while it drains, when its database does not answer or its disk is full. */
  instance(): Promise<HealthReport> {
    return this.#report({
      auth: this.#database,
      database: this.#database,
      disk_space: () => this.#requireFree(this.#app.config.DISKSPACE_HEALTH_THRESHOLD),
      registry_gunicorn: () => this.#requireServing(),
      service_key: async () => void (await this.#app.tokenKeys.signingKey()),
      web_gunicorn: () => this.#requireServing(),
    });
  }

  /** The whole chain: database and storage too. Redis is not needed and so never the reason. */
  endToEnd(): Promise<HealthReport> {
    return this.#report({
      auth: this.#database,
      database: this.#database,
      redis: async () => undefined,
      storage: this.#storage,
    });
  }

  /** Nearly full, though still working. */
  warning(): Promise<HealthReport> {
    return this.#report({
      disk_space_warning: () => this.#requireFree(this.#app.config.DISKSPACE_HEALTH_WARNING_THRESHOLD),
    });
  }

  async #report(checks: Record<string, Check>): Promise<HealthReport> {
    const services: Record<string, boolean> = {};
    const failures: Record<string, string> = {};
    for (const [name, check] of Object.entries(checks)) {
      try {
        await check();
        services[name] = true;
      } catch (error) {
        services[name] = false;
        failures[name] = error instanceof Error ? error.message : String(error);
      }
    }
    return { healthy: Object.values(services).every(Boolean), services, failures };
  }

  async #requireServing(): Promise<void> {
    if (this.#app.state.draining) throw new Error("this instance is shutting down");
  }

  async #requireFree(share: number): Promise<void> {
    const free = await this.#space();
    if (free === undefined || free >= share) return;
    throw new Error(`${(free * 100).toFixed(1)} % of the disk is free, less than ${share * 100} %`);
  }
}

/** One run serves every caller of the next FRESH_MS, failed ones included. */
function remembered<T>(clock: Clock, run: () => Promise<T>): () => Promise<T> {
  let last: { atMs: number; result: Promise<T> } | undefined;
  return () => {
    const nowMs = clock.nowMs();
    if (last && nowMs - last.atMs < FRESH_MS && nowMs >= last.atMs) return last.result;
    last = { atMs: nowMs, result: run() };
    last.result.catch(() => undefined);
    return last.result;
  };
}

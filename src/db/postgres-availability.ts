/**
 * Which of the database's servers is used, and whether any answers. When a connection fails, the servers are asked once who
 * of them takes writes; when none does, everything that needs the database fails at once instead of waiting, and the servers
 * are asked again in the background until one does. Bounds and reasons: NOTES.md, "When the server is away".
 */

import { RegistryError } from "../errors.ts";
import type { DatabaseLog } from "./options.ts";
import type { PostgresHost } from "./postgres-address.ts";

/** Between two looks at servers of which none answered. */
const lookAgainMs = 250;

export interface AvailabilityOptions {
  readonly hosts: readonly [PostgresHost, ...PostgresHost[]];
  /** For messages. */
  readonly server: string;
  /** Resolves when this server can be used; throws with the reason when it cannot. Must settle by itself. */
  readonly probe: (host: PostgresHost) => Promise<void>;
  /** No server can be used any more, or another one from now on: what is connected is to be given up. */
  readonly onCut: (reason: Error) => void;
  /** A server can be used again, or another one can. */
  readonly onUsable: () => void;
  readonly log: DatabaseLog;
}

export class PostgresAvailability {
  readonly #options: AvailabilityOptions;
  #host: PostgresHost;
  /** Why no server is used; undefined while one is. */
  #away: string | undefined;
  #looking: Promise<boolean> | undefined;
  #timer: Timer | undefined;
  #closed = false;

  constructor(options: AvailabilityOptions) {
    this.#options = options;
    this.#host = options.hosts[0];
  }

  get isAway(): boolean {
    return this.#away !== undefined;
  }

  /** The server to connect to. Throws `unavailable` while there is none. */
  requireHost(): PostgresHost {
    if (this.#away !== undefined) throw this.#unavailable(this.#away);
    return this.#host;
  }

  /**
   * Something failed as it does when a server is gone: looks for one that can be used, and says whether there is. All who ask
   * meanwhile share one look. False at once while none is known to be there.
   */
  async suspect(): Promise<boolean> {
    if (this.#away !== undefined || this.#closed) return false;
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #look(): Promise<boolean> {
    const { hosts, probe, log, server } = this.#options;
    const failures: string[] = [];
    const asked = hosts.map(async (host) => {
      try {
        await probe(host);
        return host;
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        failures.push(hosts.length > 1 ? `${host.host}:${host.port}: ${reason}` : reason);
        throw error;
      }
    });
    const found = await Promise.any(asked).catch(() => undefined);
    if (this.#closed) return false;
    if (found === undefined) {
      this.#goAway(failures.join("; "));
      return false;
    }
    const wasAway = this.#away !== undefined;
    const hasMoved = found !== this.#host;
    this.#host = found;
    this.#away = undefined;
    if (hasMoved) {
      log.warn("Another PostgreSQL server is used from now on.", { server: `${found.host}:${found.port}` });
      this.#options.onCut(this.#unavailable(`${found.host}:${found.port} has taken over`));
    } else if (wasAway) log.info("PostgreSQL can be used again.", { server });
    if (hasMoved || wasAway) this.#options.onUsable();
    return true;
  }

  #goAway(reason: string): void {
    const { log, onCut, server } = this.#options;
    const isNew = this.#away === undefined;
    this.#away = reason;
    if (isNew) {
      log.warn("PostgreSQL cannot be used; what needs it is refused until it can.", { server, reason });
      onCut(this.#unavailable(reason));
    }
    clearTimeout(this.#timer);
    // Instances that lost one server together must not ask the next one together.
    this.#timer = setTimeout(() => void this.#look(), lookAgainMs * (0.5 + Math.random()));
    this.#timer.unref();
  }

  #unavailable(reason: string): RegistryError {
    return new RegistryError("unavailable", {
      message: `PostgreSQL at ${this.#options.server} cannot be used: ${reason}`,
      forLog: true,
    });
  }
}

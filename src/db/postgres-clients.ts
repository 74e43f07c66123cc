/** Makes clients whose connections lead to the server that is used now, and asks servers whether they can be. */

import postgres from "postgres";
import type { PostgresAddress, PostgresHost } from "./postgres-address.ts";
import { type ClientOptions, makeClient, runOn } from "./postgres-client.ts";
import { troubleOf } from "./postgres-errors.ts";
import { Lane } from "./postgres-lane.ts";
import type { SessionParts } from "./postgres-pool.ts";
import { PostgresConnector } from "./postgres-socket.ts";
import { within } from "./within.ts";

/** A server that takes longer to let us in and say what it is counts as gone. */
const probeWithinMs = 3_000;

export class PostgresClients {
  readonly #address: PostgresAddress;
  readonly #connector: PostgresConnector;
  readonly #requireHost: () => PostgresHost;

  /** `requireHost` gives the server of new connections, or throws. */
  constructor(address: PostgresAddress, requireHost: () => PostgresHost) {
    this.#address = address;
    this.#connector = new PostgresConnector(address);
    this.#requireHost = requireHost;
  }

  make(options: ClientOptions): SessionParts {
    const lane = new Lane(() => this.#connector.connect(this.#requireHost()), this.#address.targetSession);
    return { client: makeClient(this.#address, lane, options), cut: (reason) => lane.cut(reason) };
  }

  /** Throws with the reason when this server cannot be used. Settles within a few seconds. */
  async probe(host: PostgresHost): Promise<void> {
    // Whether it takes writes is asked below, so that older servers answer it, too.
    const lane = new Lane(() => this.#connector.connect(host), "any");
    const client = makeClient(this.#address, lane, { connectionsMax: 1 });
    try {
      const [row] = await within(
        probeWithinMs,
        runOn(
          client,
          "/* db.probe */ select pg_is_in_recovery() as standby, current_setting('transaction_read_only') = 'on' as read_only",
          [],
        ),
      );
      const { standby, read_only } = row as { standby: boolean; read_only: boolean };
      const { targetSession } = this.#address;
      if (targetSession !== "any" && standby) throw new Error("the server is a standby");
      if (targetSession === "read-write" && read_only) throw new Error("the server takes no writes");
    } catch (error) {
      if (!this.#answers(error)) throw error;
    } finally {
      lane.cut(new Error("the question was answered"));
      void client.end({ timeout: 0 });
    }
  }

  /** Turned away, by a server that is there: connections that are open may go on, and another server would be no better. */
  #answers(error: unknown): boolean {
    if (!(error instanceof postgres.PostgresError)) return false;
    const trouble = troubleOf(error);
    return trouble === "crowded" || (trouble !== "lost" && this.#address.hosts.length === 1);
  }
}

/** Starts what a fault run needs: a PostgreSQL that keeps its word, a proxy before it, and Berth behind that. */
import { type BerthServer, startBerth } from "../support/berth.ts";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";
import { startOwnPostgres } from "../support/postgres.ts";

export type OwnPostgres = Awaited<ReturnType<typeof startOwnPostgres>>;

export interface FaultyDatabase {
  readonly server: OwnPostgres;
  readonly proxy: FaultProxy;
  /** Address of an empty database through the proxy. */
  readonly uri: string;
  stop(): Promise<void>;
}

/** What a server that is killed must still know, and what tests switch off elsewhere for speed. */
export const DURABLE = { synchronous_commit: "on" } as const;

export async function startFaultyDatabase(settings: Record<string, string | number> = {}): Promise<FaultyDatabase> {
  const server = await startOwnPostgres({ settings: { ...DURABLE, ...settings } });
  const proxy = await startFaultProxy({ host: "127.0.0.1", port: server.port });
  return {
    server,
    proxy,
    uri: through(proxy, await server.createDatabase()),
    stop: async () => {
      await proxy.stop();
      await server.stop();
    },
  };
}

/** The same database by way of the proxy. Without TLS, so that the proxy sees what is said. */
export function through(proxy: FaultProxy, uri: string): string {
  const address = new URL(uri);
  address.hostname = proxy.host;
  address.port = String(proxy.port);
  return `${address.href}?sslmode=disable`;
}

export function startBerthOn(uri: string, config: Record<string, unknown> = {}): Promise<BerthServer> {
  return startBerth({ database: uri, env: { QUAY_OVERRIDE_CONFIG: JSON.stringify({ DB_URI: uri, ...config }) } });
}

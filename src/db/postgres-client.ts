/**
 * Makes postgres.js clients with one set of options: our sockets, our types on the wire, no surprises from the environment.
 */

import postgres from "postgres";
import type { SqlValue } from "./db.ts";
import { toNumber } from "./decode.ts";
import type { PostgresAddress } from "./postgres-address.ts";
import type { Lane } from "./postgres-lane.ts";

export type Client = postgres.Sql;

/** Object ids of PostgreSQL's built-in types. Source: pg_type.dat. */
const oid = { bool: 16, bytea: 17, int8: 20, json: 114, float8: 701, numeric: 1700, jsonb: 3802 } as const;

const asIs = (text: string): string => text;

const types = {
  number: { to: oid.int8, from: [oid.int8, oid.numeric], serialize: String, parse: toNumber },
  float: { to: oid.float8, from: [21, 23, 26, 700, oid.float8], serialize: String, parse: Number },
  boolean: {
    to: oid.bool,
    from: [oid.bool],
    // 0 and 1 too: that is how a caller may hold a boolean that it read from SQLite.
    serialize: (value: unknown) => (value === true || value === 1 || value === "true" ? "t" : "f"),
    parse: (text: string) => text === "t",
  },
  bytes: {
    to: oid.bytea,
    from: [oid.bytea],
    serialize: (bytes: Uint8Array) => `\\x${bytes.toHex()}`,
    parse: (text: string) => Uint8Array.fromHex(text.slice(2)),
  },
  // JSON is text on both sides of this layer.
  json: { to: oid.json, from: [oid.json, oid.jsonb], serialize: asIs, parse: asIs },
};

export interface ClientOptions {
  readonly connectionsMax: number;
  /** Seconds after which an unused connection and a long-used one are closed; undefined keeps them. */
  readonly idleSeconds?: number;
  readonly lifetimeSeconds?: number;
  /** Called at once when a connection is closed, whatever the reason. */
  readonly onClose?: () => void;
  readonly onNotify?: (channel: string, payload: string) => void;
}

export function makeClient(address: PostgresAddress, lane: Lane, options: ClientOptions): Client {
  const settings = {
    // For its messages only: the lane decides where to.
    host: address.hosts[0].host,
    port: address.hosts[0].port,
    user: address.user,
    // A password from the environment of the process would hide that the configuration has none.
    pass: address.password,
    database: address.database,
    socket: () => lane.connect(),
    ssl: false,
    max: options.connectionsMax,
    connect_timeout: Math.ceil(address.timeoutMs / 1000),
    idle_timeout: options.idleSeconds ?? null,
    max_lifetime: options.lifetimeSeconds ?? null,
    // Sessions come back quickly after a restart of the server; the default waits up to 20 s.
    backoff: () => 0.1,
    fetch_types: false,
    prepare: true,
    types,
    onnotice: () => undefined,
    onclose: () => options.onClose?.(),
    onnotify: options.onNotify,
    connection: { application_name: "berth", ...address.settings },
  };
  // `socket`, `pass` and `onnotify` are options of postgres.js that its type declarations leave out.
  return postgres(settings as unknown as postgres.Options<Record<string, postgres.PostgresType>>);
}

/** Runs one statement. Numbers get a type of their own: left to PostgreSQL, `$1 - 1000` would be taken for a 32-bit one. */
export async function runOn(client: Client, text: string, params: readonly SqlValue[]): Promise<unknown[]> {
  const typed = params.map((value) =>
    typeof value === "number" ? client.typed(value, Number.isInteger(value) ? oid.int8 : oid.float8) : value,
  );
  return [...(await client.unsafe(text, typed, { prepare: true }))];
}

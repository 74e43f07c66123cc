/**
 * Gives tests a real PostgreSQL: one at an address in the environment, else in a container when an engine answers, else
 * from programs on this machine (the npm package, then Debian's). A missing one is an error that names the install command.
 */

import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import postgres from "postgres";
import { migrate } from "../../src/db/migrate.ts";
import { migrations } from "../../src/db/migrations.ts";
import { openDatabase } from "../../src/db/open.ts";
import { type LocalPostgres, type LocalPostgresOptions, startLocalPostgres } from "./postgres-local.ts";

export interface TestPostgres {
  /** Superuser's address of the database `postgres`. */
  readonly uri: string;
  /**
   * Makes a database (any name from `a-z0-9_`; a random one when left out) and gives its address. It is empty, or a copy of
   * another one on this server that nobody is connected to.
   */
  createDatabase(name?: string, copyOf?: string): Promise<string>;
  /** Ends the server and removes its files; of a server that was not ours, removes the databases made here. */
  stop(): Promise<void>;
}

/** Starts a server or finds one. `TEST_POSTGRES_URI` names a superuser's database on a server that is already there. */
export async function startPostgres(): Promise<TestPostgres> {
  const given = process.env.TEST_POSTGRES_URI;
  if (given) return withDatabases(given, async () => undefined, true);
  if (containerEngineAnswers()) return startContainer();
  return startOwnPostgres();
}

/** A server of our own on this machine, which a test may crash, restart, give TLS or choose the version of. */
export async function startOwnPostgres(options: LocalPostgresOptions = {}): Promise<TestPostgres & LocalPostgres> {
  const local = await startLocalPostgres(options);
  return { ...local, ...withDatabases(local.uri, () => local.stop(), false) };
}

let shared: Promise<TestPostgres> | undefined;

/** An empty database with a random name on a server that this process starts once and that ends with it. */
export async function createTestDatabase(): Promise<string> {
  shared ??= startPostgres();
  return (await shared).createDatabase();
}

let upToDate: Promise<string> | undefined;

/** The same with the newest schema and no rows: a copy of one database that is brought up to date once. */
export async function createMigratedDatabase(): Promise<string> {
  upToDate ??= migratedDatabase();
  const template = await upToDate;
  shared ??= startPostgres();
  return (await shared).createDatabase(undefined, template);
}

/** Gives its name. */
async function migratedDatabase(): Promise<string> {
  const uri = await createTestDatabase();
  const db = await openDatabase({ uri });
  try {
    await migrate(db, migrations);
  } finally {
    await db.close();
  }
  return new URL(uri).pathname.slice(1);
}

function withDatabases(uri: string, stop: () => Promise<void>, dropAtStop: boolean): TestPostgres {
  const made: string[] = [];
  return {
    uri,
    createDatabase: async (name = `berth_test_${randomUUID().replaceAll("-", "")}`, copyOf = "template1") => {
      for (const each of [name, copyOf]) {
        if (!/^[a-z][a-z0-9_]{0,62}$/.test(each)) throw new Error(`"${each}" is no name for a database: use a-z0-9_`);
      }
      await asSuperuser(uri, `create database ${name} template ${copyOf}`);
      made.push(name);
      const address = new URL(uri);
      address.pathname = `/${name}`;
      return address.href;
    },
    stop: async () => {
      if (dropAtStop) for (const name of made) await asSuperuser(uri, `drop database if exists ${name} with (force)`);
      await stop();
    },
  };
}

async function asSuperuser(uri: string, statement: string): Promise<void> {
  const client = postgres(uri, { max: 1, onnotice: () => undefined, ssl: "prefer" });
  try {
    await client.unsafe(statement);
  } finally {
    await client.end({ timeout: 5 });
  }
}

/** A cheap look: loading testcontainers and asking it takes longer than starting PostgreSQL. */
function containerEngineAnswers(): boolean {
  const runtimeDir = process.env.XDG_RUNTIME_DIR;
  const sockets = ["/var/run/docker.sock", ...(runtimeDir ? [`${runtimeDir}/podman/podman.sock`] : [])];
  return Boolean(process.env.DOCKER_HOST) || sockets.some((socket) => existsSync(socket));
}

async function startContainer(): Promise<TestPostgres> {
  const { GenericContainer, Wait } = await import("testcontainers");
  const password = randomUUID();
  const container = await new GenericContainer("postgres:18")
    .withEnvironment({ POSTGRES_PASSWORD: password, POSTGRES_INITDB_ARGS: "--locale=C --encoding=UTF8" })
    .withCommand(["-c", "fsync=off", "-c", "max_connections=200"])
    .withExposedPorts(5432)
    // The image starts the server twice: once to prepare the data, then for good.
    .withWaitStrategy(Wait.forLogMessage(/database system is ready to accept connections/, 2))
    .start();
  const uri = `postgresql://postgres:${password}@${container.getHost()}:${container.getMappedPort(5432)}/postgres`;
  return withDatabases(uri, async () => void (await container.stop()), false);
}

/**
 * What only a real PostgreSQL can show: servers that die, freeze and come back, the six sslmodes, transactions that lose.
 * Runs when TEST_DB is `postgres` or `both`.
 */

import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { Database } from "../../src/db/db.ts";
import { openPostgres, type PostgresConnectionArgs } from "../../src/db/postgres.ts";
import { describeAddress, parsePostgresAddress } from "../../src/db/postgres-address.ts";
import { RegistryError } from "../../src/errors.ts";
import { chosenEngines } from "../support/database.ts";
import { startOwnPostgres } from "../support/postgres.ts";
import { processTree } from "../support/process.ts";
import { makeTempDir } from "../support/temp-dir.ts";

type Server = Awaited<ReturnType<typeof startOwnPostgres>>;

// Bun's own bound ends what a late test has started, which is the server that all others share.
setDefaultTimeout(60_000);
/** Whatever a busy machine does: when to call it a failure. */
const patienceMs = 30_000;

const chosen = chosenEngines().includes("postgres");
const opened: Database[] = [];

afterEach(async () => {
  await Promise.all(opened.splice(0).map((db) => db.close()));
});

async function open(uri: string, connectionArgs: PostgresConnectionArgs = {}): Promise<Database> {
  const db = await openPostgres({ uri, connectionArgs });
  opened.push(db);
  return db;
}

async function until(condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + patienceMs;
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error(`not so within ${patienceMs} ms: ${condition}`);
    await Bun.sleep(10);
  }
}

const failure = (work: PromiseLike<unknown>) =>
  Promise.resolve(work).then(
    () => undefined,
    (error) => error,
  );

describe.if(chosen)("postgres", () => {
  let server: Server;
  beforeAll(async () => {
    server = await startOwnPostgres();
  }, 60_000);
  afterAll(() => server?.stop());

  test("a deadlock is repeated until both transactions are through", async () => {
    const db = await open(await server.createDatabase());
    await db.tx((tx) =>
      tx.script("create table t (id bigint primary key, n bigint not null); insert into t values (1, 0), (2, 0)"),
    );
    let runs = 0;
    // In the first round each holds its first row before either asks for the other's.
    const both = Promise.withResolvers<void>();
    let holders = 0;
    const touch = (first: number, second: number) =>
      db.tx(async (tx) => {
        runs++;
        tx.changed(`pair:${first}`);
        await tx.sql`update t set n = n + 1 where id = ${first}`;
        if (++holders === 2) both.resolve();
        await both.promise;
        await tx.sql`update t set n = n + 1 where id = ${second}`;
      });
    const heard: unknown[] = [];
    db.onChanged((keys) => heard.push(...(keys ?? [])));
    await Promise.all([touch(1, 2), touch(2, 1)]);
    expect(runs).toBe(3);
    expect(await db.sql`select n from t`).toEqual([{ n: 2 }, { n: 2 }]);
    expect(heard.sort()).toEqual(["pair:1", "pair:2"]);
  });

  test("a transaction that always loses is given up after five repeats, also when its work hides the reason", async () => {
    const db = await open(server.uri);
    for (const hide of [false, true]) {
      let runs = 0;
      const lost = await failure(
        db.tx(async (tx) => {
          runs++;
          try {
            await tx.script("do $$ begin raise exception 'lost' using errcode = '40001'; end $$");
          } catch (error) {
            throw hide ? new Error("something failed") : error;
          }
        }),
      );
      expect(lost).toMatchObject({ code: "40001" });
      expect(runs).toBe(6);
    }
  });

  test("a number that cannot be held exactly is an error, and the connection goes on", async () => {
    const db = await open(server.uri);
    await expect(Promise.resolve(db.sql`select 9007199254740993 as n`)).rejects.toThrow("9007199254740993");
    expect(await db.sql`select cast(9007199254740991 as bigint) as n, cast(1.5 as numeric) as f`).toEqual([
      { n: 9007199254740991, f: 1.5 },
    ]);
  });

  test("who waits longer than the timeout for a connection hears of it", async () => {
    const db = await open(server.uri, { max_connections: 2, timeout: 1 });
    const release = Promise.withResolvers<void>();
    const long = db.tx(async () => release.promise);
    expect(await failure(db.tx(async () => 1))).toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("came free"),
    });
    // Queries outside transactions have connections of their own.
    expect(await db.sql`select 1 as n`).toEqual([{ n: 1 }]);
    const next = db.tx(async () => "got it");
    release.resolve();
    await long;
    expect(await next).toBe("got it");
  });

  test("a session that is cut in the middle commits nothing and runs nothing elsewhere", async () => {
    const db = await open(await server.createDatabase());
    await db.sql`create table t (n bigint)`;
    let runs = 0;
    const cut = await failure(
      db.tx(async (tx) => {
        runs++;
        const [row] = await tx.sql`insert into t values (1) returning pg_backend_pid() as pid`;
        await db.sql`select pg_terminate_backend(cast(${Number(row?.pid)} as integer))`;
        await Bun.sleep(100);
        await Promise.resolve(tx.sql`insert into t values (2)`).catch(() => undefined);
        await tx.sql`insert into t values (3)`;
      }),
    );
    expect(cut).toBeInstanceOf(RegistryError);
    expect(cut).toMatchObject({ code: "unavailable" });
    expect(cut.cause).not.toBeInstanceOf(RegistryError);
    expect(runs).toBe(1);
    expect(await db.sql`select n from t`).toEqual([]);
    await db.tx(async (tx) => tx.sql`insert into t values (4)`);
    expect(await db.sql`select n from t`).toEqual([{ n: 4 }]);
  });

  test("sessions that were cut while idle are not noticed by the next user", async () => {
    const db = await open(server.uri);
    await db.tx(async (tx) => tx.sql`select 1`);
    await db.sql`select 1`;
    const admin = await open(server.uri);
    await admin.sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'berth' and pid <> pg_backend_pid()`;
    await Bun.sleep(200);
    expect(await db.tx((tx) => Promise.resolve(tx.sql`select 1 as n`))).toEqual([{ n: 1 }]);
    expect(await db.sql`select 1 as n`).toEqual([{ n: 1 }]);
    await until(() => db.hearsChanges);
  });

  test("a server that is killed and comes back is found again, and listeners drop everything", async () => {
    const db = await open(server.uri);
    await db.sql`create table if not exists survivor (n bigint)`;
    const heard: unknown[] = [];
    db.onChanged((keys) => heard.push(keys));
    const waiting = failure(db.tx(async (tx) => tx.sql`select pg_sleep(20)`));
    const reading = failure(db.sql`select pg_sleep(20)`);
    await Bun.sleep(200);
    await server.crash();
    for (const lost of await Promise.all([waiting, reading])) {
      expect(lost).toBeInstanceOf(RegistryError);
      expect(lost).toMatchObject({ code: "unavailable" });
    }
    await until(() => !db.hearsChanges);
    // More failures than there are connections: a failed try may not use one up.
    for (let n = 0; n < 30; n++) {
      expect(await failure(db.sql`select 1`)).toMatchObject({ code: "unavailable" });
      expect(await failure(db.tx(async () => 1))).toMatchObject({ code: "unavailable" });
    }
    expect(heard).toEqual([]);
    await server.restart();
    await until(() => db.hearsChanges);
    expect(await db.tx((tx) => Promise.resolve(tx.sql`select 1 as n`))).toEqual([{ n: 1 }]);
    expect(await db.sql`select 1 as n`).toEqual([{ n: 1 }]);
    expect(heard).toEqual([undefined]);
    const other = await open(server.uri);
    await other.tx(async (tx) => tx.changed("again"));
    await until(() => heard.length === 2);
    expect(heard).toEqual([undefined, ["again"]]);
  }, 60_000);

  test("a server that freezes is noticed by ping and by the listener", async () => {
    const db = await open(server.uri);
    const frozen = processTree(server.pid());
    for (const pid of frozen) process.kill(pid, "SIGSTOP");
    try {
      expect(await failure(db.ping(200))).toMatchObject({ code: "unavailable" });
      await until(() => !db.hearsChanges);
    } finally {
      for (const pid of frozen) process.kill(pid, "SIGCONT");
    }
    await until(() => db.hearsChanges);
    await db.ping(2_000);
  });

  test("a wrong password or database is unavailable, and no message holds the password", async () => {
    const wrong = new URL(server.uri);
    wrong.password = "hunter2secret";
    const missing = new URL(server.uri);
    missing.pathname = "/absent";
    const closed = new URL(server.uri);
    closed.port = "1";
    for (const uri of [wrong.href, missing.href, closed.href]) {
      const error = await failure(openPostgres({ uri }));
      expect(error).toMatchObject({ code: "unavailable" });
      const told = `${Bun.inspect(error)} ${JSON.stringify(error)} ${error.stack}`;
      for (const password of ["hunter2secret", new URL(server.uri).password]) expect(told).not.toContain(password);
    }
  });
});

describe.if(chosen)("sslmode", () => {
  let plain: Server;
  let tls: Server;
  let strangerCa: string;
  const dir = makeTempDir("sslmode");

  beforeAll(async () => {
    // Which database is named decides which channel the server with TLS admits.
    const admits = ["hostssl only_tls all", "hostnossl only_plain all", "host postgres all"];
    [plain, tls] = await Promise.all([startOwnPostgres(), startOwnPostgres({ tls: true, admits })]);
    await Promise.all(["only_tls", "only_plain"].map((name) => tls.createDatabase(name)));
    strangerCa = join(dir.path, "stranger.crt");
    await Bun.$`openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout ${dir.path}/key -out ${strangerCa} -subj "/CN=Stranger"`.quiet();
  }, 60_000);
  afterAll(async () => {
    await Promise.all([plain?.stop(), tls?.stop()]);
    dir.remove();
  });

  /** How the session went through: encrypted, in the open, or not at all. */
  async function channel(server: Server, database: string, host: string, args: PostgresConnectionArgs) {
    const uri = new URL(server.uri);
    uri.pathname = `/${database}`;
    uri.hostname = host;
    try {
      const db = await open(uri.href, { timeout: 5, ...args });
      const [row] = await db.sql`select ssl from pg_stat_ssl where pid = pg_backend_pid()`;
      await db.close();
      return row?.ssl === true ? "tls" : "plain";
    } catch (error) {
      if (error instanceof RegistryError && error.code === "unavailable") return "refused";
      throw error;
    }
  }

  const modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
  const table: Record<string, string[]> = {
    "without TLS": ["plain", "plain", "plain", "refused", "refused", "refused"],
    postgres: ["plain", "plain", "tls", "tls", "tls", "tls"],
    only_tls: ["refused", "tls", "tls", "tls", "tls", "tls"],
    only_plain: ["plain", "plain", "plain", "refused", "refused", "refused"],
  };
  for (const [name, expected] of Object.entries(table)) {
    test(`all six modes against a server or database "${name}"`, async () => {
      const seen: string[] = [];
      for (const sslmode of modes) {
        const [server, database] = name === "without TLS" ? [plain, "postgres"] : [tls, name];
        const sslrootcert = sslmode.startsWith("verify") ? tls.caFile : undefined;
        seen.push(await channel(server, database, "localhost", { sslmode, sslrootcert }));
      }
      expect(seen).toEqual(expected);
    });
  }

  test("what is verified: the chain, and the name only with verify-full", async () => {
    const cases: [string, string, string | undefined, string][] = [
      ["require", "127.0.0.1", undefined, "tls"],
      ["require", "localhost", tls.caFile, "tls"],
      // As in libpq, a file of authorities turns `require` into `verify-ca`.
      ["require", "localhost", strangerCa, "refused"],
      ["verify-ca", "127.0.0.1", tls.caFile, "tls"],
      ["verify-ca", "localhost", strangerCa, "refused"],
      ["verify-ca", "localhost", undefined, "refused"],
      ["verify-ca", "localhost", "system", "refused"],
      ["verify-full", "localhost", tls.caFile, "tls"],
      ["verify-full", "127.0.0.1", tls.caFile, "refused"],
      ["verify-full", "localhost", strangerCa, "refused"],
      ["verify-full", "localhost", join(dir.path, "absent.crt"), "refused"],
      // Modes that promise nothing do not look at it.
      ["prefer", "localhost", strangerCa, "tls"],
    ];
    const seen: unknown[] = [];
    for (const [sslmode, host, sslrootcert] of cases) {
      seen.push([sslmode, host, sslrootcert, await channel(tls, "postgres", host, { sslmode, sslrootcert })]);
    }
    expect(seen).toEqual(cases);
  }, 60_000);

  test("a refusal says what is wrong with the certificate", async () => {
    const uri = tls.uri.replace("localhost", "127.0.0.1");
    const named = await failure(
      openPostgres({ uri, connectionArgs: { sslmode: "verify-full", sslrootcert: tls.caFile } }),
    );
    expect(named.message).toContain('not for "127.0.0.1"');
    const chain = await failure(
      openPostgres({ uri, connectionArgs: { sslmode: "verify-ca", sslrootcert: strangerCa } }),
    );
    expect(chain.message).toContain("not trusted");
    const none = await failure(openPostgres({ uri: plain.uri, connectionArgs: { sslmode: "require" } }));
    expect(none.message).toContain("does not support TLS");
    const absent = join(dir.path, "absent.crt");
    const file = await failure(openPostgres({ uri, connectionArgs: { sslmode: "verify-ca", sslrootcert: absent } }));
    expect(file.message).toContain(absent);
  });
});

describe("postgres addresses", () => {
  test("are read as SQLAlchemy reads them", () => {
    const read = (uri: string, args: PostgresConnectionArgs = {}) => {
      const { hosts, user, password, database, sslmode } = parsePostgresAddress(uri, args);
      return { ...hosts[0], user, password, database, sslmode };
    };
    expect(read("postgresql+psycopg2://quay:p%40ss/#?w@db.example:6432/quay?sslmode=require")).toEqual({
      host: "db.example",
      port: 6432,
      user: "quay",
      password: "p@ss/#?w",
      database: "quay",
      sslmode: "require",
    });
    expect(read("postgresql://u:p@[::1]/d", { sslmode: "verify-ca" })).toMatchObject({
      host: "::1",
      port: 5432,
      sslmode: "verify-ca",
    });
    expect(read("postgresql://u@/d?host=/run/postgresql")).toMatchObject({
      host: "/run/postgresql",
      database: "d",
      password: "",
    });
    expect(read("postgresql://u:p@h")).toMatchObject({ database: "u", sslmode: "prefer" });
  });

  test("name several hosts as libpq and SQLAlchemy write them", () => {
    const hosts = (uri: string) => {
      const address = parsePostgresAddress(uri);
      return [describeAddress(address), address.targetSession];
    };
    const cases: [string, string, string][] = [
      ["postgresql://u:p@a:1,b:2/d", "a:1,b:2/d", "read-write"],
      ["postgresql://u:p@a,[::1]:2/d?target_session_attrs=primary", "a:5432,::1:2/d", "primary"],
      ["postgresql://u:p@a,b/d?port=6000&target_session_attrs=any", "a:6000,b:6000/d", "any"],
      ["postgresql://u:p@/d?host=a,b&port=1,2", "a:1,b:2/d", "read-write"],
      ["postgresql://u:p@/d?host=a:1&host=b:2", "a:1,b:2/d", "read-write"],
      ["postgresql://u:p@a/d", "a:5432/d", "any"],
      ["postgresql://u:p@/d", "localhost:5432/d", "any"],
    ];
    for (const [uri, text, target] of cases) expect(hosts(uri)).toEqual([text, target]);
  });

  test("carry the limits on time, which libpq's options and 0 take away", () => {
    const settings = (args: PostgresConnectionArgs) => parsePostgresAddress("postgresql://u:p@h/d", args).settings;
    expect(settings({})).toEqual({
      statement_timeout: "30000",
      lock_timeout: "10000",
      idle_in_transaction_session_timeout: "20000",
    });
    expect(
      settings({ statement_timeout: 5000, lock_timeout: 0, options: "-c idle_in_transaction_session_timeout=9s" }),
    ).toEqual({ statement_timeout: "5000", options: "-c idle_in_transaction_session_timeout=9s" });
  });

  test("that are wrong are refused without their password", () => {
    const cases: [string, PostgresConnectionArgs, string][] = [
      ["postgresql://u:secret@h:99999/d", {}, "port 99999"],
      ["postgresql://u:secret%zz@h/d", {}, "starts no escape"],
      ["postgresql://u:secret@a,b,c/d?port=1,2", {}, "3 hosts and 2 ports"],
      ["postgresql://u:secret@a,b/d?target_session_attrs=standby", {}, 'is "standby"'],
      ["postgresql://u:secret@h/d", { statement_timeout: -1 }, "DB_CONNECTION_ARGS.statement_timeout"],
      ["postgresql://u:secret@h:port/d", {}, "not a PostgreSQL address"],
      ["postgresql://u:secret@h/d", { sslmode: "on" }, "must be one of disable, allow"],
      ["postgresql://u:secret@h/d", { max_connections: 0 }, "from 2 to 1000"],
    ];
    for (const [uri, args, message] of cases) {
      expect(() => parsePostgresAddress(uri, args)).toThrow(message);
      expect(() => parsePostgresAddress(uri, args)).not.toThrow("secret");
    }
  });
});

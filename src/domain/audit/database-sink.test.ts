import { expect, test } from "bun:test";
import { withDatabases } from "../../../test/support/database.ts";
import type { Database } from "../../db/db.ts";
import { migrate } from "../../db/migrate.ts";
import { migrations } from "../../db/migrations.ts";
import type { LogEntry } from "../../logsink/contract.ts";
import { createDatabaseSink } from "./database-sink.ts";

const NOW = Date.UTC(2024, 5, 15);
const DAY_MS = 24 * 3600 * 1000;

const entry = (n: number, more: Partial<LogEntry> = {}): LogEntry => ({
  kind: n % 2 === 0 ? "pull_repo" : "push_repo",
  namespaceId: 1,
  performerId: undefined,
  repositoryId: 5,
  ip: undefined,
  metadata: JSON.stringify({ n, text: "\u0000\n\ud800" }),
  createdMs: NOW,
  count: 1,
  ...more,
});

withDatabases("the log in the database", (databases) => {
  test("entries of the first release come along, and what they name may be gone", async () => {
    const db = await databases.open();
    await migrate(db, migrations.slice(0, 1));
    await db.tx(async (tx) => {
      await tx.sql`/* test.account */
        insert into account (id, uuid, kind, username, tag_expiration_s, created_ms)
        values (7, 'u', 'user', 'alice', 0, 0)`;
      for (const n of [1, 2, 3]) {
        await tx.sql`/* test.entry */
          insert into action_log (kind, namespace_id, metadata, created_ms) values ('push_repo', 7, '{}', ${n})`;
      }
    });
    await migrate(db, migrations);
    await db.tx(async (tx) => {
      await tx.sql`/* test.purge */ delete from account where id = 7`;
    });
    const { lookup, write } = createDatabaseSink(db);
    await write([entry(1, { namespaceId: 7, createdMs: 4, count: 3 })]);
    const all = await lookup.list({ namespaceId: 7, startMs: 0, endMs: 10 }, { order: "newest", limit: 10 });
    expect(all.map(({ createdMs, count }) => [createdMs, count])).toEqual([
      [4, 3],
      [3, 1],
      [2, 1],
      [1, 1],
    ]);
    expect(new Set(all.map(({ id }) => id)).size).toBe(4);
  });

  test("any number of rows is written, and pages in both orders meet each row once", async () => {
    const db = await databases.open();
    await migrate(db, migrations);
    const { lookup, write } = createDatabaseSink(db);
    await write([]);
    await write(Array.from({ length: 777 }, (_, n) => entry(n, { createdMs: NOW + Math.floor(n / 100) })));
    const filter = { repositoryId: 5, startMs: NOW, endMs: NOW + DAY_MS };
    for (const order of ["newest", "oldest"] as const) {
      const seen: number[] = [];
      for (let after: { createdMs: number; id: number } | undefined; ; ) {
        const page = await lookup.list(filter, { order, limit: 50, after });
        seen.push(...page.map(({ metadata }) => (JSON.parse(metadata) as { n: number }).n));
        after = page.at(-1);
        if (!after) break;
        const [again] = await lookup.list(filter, { order, limit: 1, after, inclusive: true });
        expect(again).toEqual(page.at(-1));
      }
      const numbers = Array.from({ length: 777 }, (_, n) => n);
      expect(seen).toEqual(order === "oldest" ? numbers : numbers.reverse());
    }
    expect(await lookup.aggregate(filter)).toEqual([
      { kind: "pull_repo", dayMs: NOW, count: 389 },
      { kind: "push_repo", dayMs: NOW, count: 388 },
    ]);
    const without = { ...filter, withoutKinds: ["pull_repo"] };
    expect(await lookup.aggregate(without)).toEqual([{ kind: "push_repo", dayMs: NOW, count: 388 }]);
  });

  if (databases.engine === "sqlite") {
    test("lists and counts are served by an index, counts by nothing else", async () => {
      const db = await databases.open();
      await migrate(db, migrations);
      const { lookup } = createDatabaseSink(explaining(db));
      const range = { startMs: NOW, endMs: NOW + DAY_MS };
      const plan = async (rows: Promise<unknown>) => JSON.stringify(await rows.catch((error: Error) => error.message));
      const page = { order: "newest", limit: 21, after: { createdMs: NOW, id: 1 } } as const;
      const scopes = [
        ["action_log_by_namespace", { namespaceId: 1 }],
        ["action_log_by_namespace_performer", { namespaceId: 1, performerId: 2 }],
        ["action_log_by_repository", { repositoryId: 1 }],
        ["action_log_by_time", {}],
      ] as const;
      for (const [index, scope] of scopes) {
        const list = await plan(lookup.list({ ...scope, ...range, withoutKinds: ["a", "b"] }, page));
        expect(list).toContain(`USING INDEX ${index} (`);
        expect(list).not.toContain("TEMP B-TREE");
        const counts = await plan(lookup.aggregate({ ...scope, ...range }));
        if (!("performerId" in scope)) expect(counts).toContain(`USING COVERING INDEX ${index} (`);
      }
    });
  }
});

/** The same database, whose queries answer with their plan, thrown because it has another shape than their rows. */
function explaining(db: Database): Database {
  return Object.assign(Object.create(db) as Database, {
    dialect: db.dialect,
    sql(strings: TemplateStringsArray, ...values: Parameters<Database["sql"]>[1][]) {
      const [first = "", ...rest] = strings;
      const isQuery = first.startsWith("/* audit.");
      if (!isQuery) return db.sql(strings, ...values);
      const text = Object.assign([first.replace("*/", "*/ explain query plan"), ...rest], { raw: strings.raw });
      const plan = db.sql<{ detail: string }>(text as unknown as TemplateStringsArray, ...values);
      return Promise.resolve(plan).then((rows) => Promise.reject(new Error(rows.map((row) => row.detail).join("; "))));
    },
  });
}

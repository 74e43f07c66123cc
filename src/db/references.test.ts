/**
 * When a row is deleted, both engines look for rows that still refer to it. Where no index begins with the referring column
 * they read the whole table for each row, which no test with a few rows notices.
 */

import { Database as SqliteFile } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import { makeTempDir } from "../../test/support/temp-dir.ts";
import { migrate } from "./migrate.ts";
import { migrations } from "./migrations.ts";
import { openDatabase } from "./open.ts";

/** Tables that stay small, which refer to what is seldom deleted. */
const SMALL: ReadonlySet<string> = new Set([
  "service_key.approver_id",
  "team_invite.inviter_id",
  "team_invite.team_id",
  "upload_session.account_id",
]);

test("every reference is found by an index", async () => {
  const dir = makeTempDir("references");
  const path = join(dir.path, "berth.db");
  const db = await openDatabase({ uri: `sqlite:///${path}` });
  await migrate(db, migrations);
  await db.close();
  const file = new SqliteFile(path, { readonly: true });
  const all = <Row>(text: string, ...values: string[]) => file.query<Row, string[]>(text).all(...values);
  // A partial index that leaves out only what refers to nothing serves as well.
  const isServed = (table: string, column: string) =>
    all<{ name: string; sql: string | null; first: string }>(
      `select l.name, m.sql, i.name as first from pragma_index_list(?) l join pragma_index_info(l.name) i
       left join sqlite_schema m on m.name = l.name where i.seqno = 0`,
      table,
    ).some(({ sql, first }) => {
      const condition = / where (.*)$/is.exec(sql ?? "")?.[1];
      return first === column && (condition === undefined || condition === `${column} is not null`);
    }) || all<{ name: string }>("select name from pragma_table_info(?) where pk = 1", table)[0]?.name === column;
  const references = all<{ table: string; column: string }>(
    `select m.name as "table", f."from" as "column" from sqlite_schema m join pragma_foreign_key_list(m.name) f
     where m.type = 'table'`,
  );
  const unserved = references.filter(({ table, column }) => !isServed(table, column));
  file.close();
  dir.remove();
  expect(references.length).toBeGreaterThan(50);
  expect(unserved.map(({ table, column }) => `${table}.${column}`).filter((name) => !SMALL.has(name))).toEqual([]);
});

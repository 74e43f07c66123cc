/** What time it is for the database: for what instances whose clocks differ must judge alike. */

import type { Db } from "./db.ts";
import { toNumber } from "./decode.ts";

/** Epoch ms by the database's clock; one query. */
export async function databaseNowMs(db: Db): Promise<number> {
  const [row] = await db.sql<{ now_ms: number }>`/* db.now */ select ${db.dialect.nowMs} as now_ms`;
  return toNumber(row?.now_ms ?? 0);
}

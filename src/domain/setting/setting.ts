/** Values that the instances share and no config.yaml gave, such as generated secrets. */

import type { Database } from "../../db/db.ts";

/** The value of `key`, made by `make` if nobody has set it yet. Instances that start at once agree on the first. */
export async function getOrMakeSetting(db: Database, key: string, make: () => string): Promise<string> {
  const [found] = await db.sql<{ value: string }>`/* setting.get */ select value from setting where key = ${key}`;
  if (found) return found.value;
  return db.tx(async (tx) => {
    await tx.sql`/* setting.make */ insert into setting (key, value) values (${key}, ${make()}) on conflict do nothing`;
    const [row] = await tx.sql<{ value: string }>`/* setting.get */ select value from setting where key = ${key}`;
    if (!row) throw new Error(`setting "${key}" vanished inside its own transaction`);
    return row.value;
  });
}

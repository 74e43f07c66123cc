/**
 * What is made inside a namespace carries its name: a repository's path, a robot's name. Whoever makes such a thing holds the
 * namespace first, so that it is not renamed or deleted between being found and being written.
 */

import type { Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";

/** Holds the namespace until the transaction ends. Throws `not_found` when it has another name by now, or is gone. */
export async function lockNamespace(tx: Tx, namespace: { id: number; name: string }): Promise<void> {
  const rows = await tx.sql`/* namespace.lock */
    select id from account
    where id = ${namespace.id} and username = ${namespace.name} and deleted_ms is null ${tx.dialect.forUpdate}`;
  if (rows.length === 0) throw new RegistryError("not_found");
}

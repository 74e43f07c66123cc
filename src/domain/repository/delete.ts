/**
 * Deleting a repository: at commit it is gone from /v2, every list and every search, and its name is free. What it held is
 * collected by the `repositorygc` job. Source: quay-behaviour reference, section 8.
 */

import type { App } from "../../app.ts";
import { enqueue } from "../../db/queue.ts";
import { type Change, inChange } from "./settings.ts";
import { deleteWords } from "./words.ts";

/** The caller has been found to be its admin. Throws `not_found` when somebody else was faster. */
export async function deleteRepository(app: Pick<App, "db" | "clock">, change: Change): Promise<void> {
  const { id } = change.repository;
  await inChange(app, change, { kind: "delete_repo", metadata: {} }, async (tx, nowMs) => {
    // A path without a slash is nobody's: it stands in no namespace, and cannot be asked for.
    const retired = crypto.randomUUID();
    await tx.sql`/* repository.retire */
      update repository
      set name = ${retired}, path = ${retired}, state = 'MARKED_FOR_DELETION', deleted_ms = ${nowMs}
      where id = ${id}`;
    await deleteWords(tx, id);
    await tx.sql`/* repository.end_stars */ delete from star where repository_id = ${id}`;
    await tx.sql`/* repository.end_roles */ delete from repository_permission where repository_id = ${id}`;
    await tx.sql`/* repository.end_emails */ delete from authorized_email where repository_id = ${id}`;
    await enqueue(tx, { queue: "repositorygc", dedupeKey: String(id), payload: { repositoryId: id } });
  });
}

/**
 * Deleting a repository: at commit it is gone from /v2, every list and every search, and its name is free. It can be restored
 * for the time machine's window (`deleted.ts`); then the `repositorygc` job removes what it held. Source: quay-behaviour
 * reference, section 8; that it comes back is Berth's own.
 */

import type { App } from "../../app.ts";
import { toNumber } from "../../db/decode.ts";
import { enqueue } from "../../db/queue.ts";
import { type Change, inChange } from "./settings.ts";
import { deleteWords } from "./words.ts";

/** The caller has been found to be its admin. Throws `not_found` when somebody else was faster. */
export async function deleteRepository(app: Pick<App, "db" | "clock">, change: Change): Promise<void> {
  const { id, namespaceId } = change.repository;
  await inChange(app, change, { kind: "delete_repo", metadata: {} }, async (tx) => {
    const [namespace] = await tx.sql<{ window_s: number }>`/* repository.window */
      select tag_expiration_s as window_s from account where id = ${namespaceId}`;
    const windowMs = toNumber(namespace?.window_s ?? 0) * 1000;
    const isRestorable = windowMs > 0;
    // A path without a slash is nobody's: it stands in no namespace, and cannot be asked for.
    const retired = crypto.randomUUID();
    // Who asks for roles or stars of repositories asks for living ones: they stay, and so do policies.
    await tx.sql`/* repository.retire */
      update repository
      set restore_name = ${isRestorable ? tx.sql`name` : tx.sql`null`},
          restore_state = ${isRestorable ? tx.sql`state` : tx.sql`null`},
          name = ${retired}, path = ${retired}, state = 'MARKED_FOR_DELETION', deleted_ms = ${tx.dialect.nowMs}
      where id = ${id}`;
    await deleteWords(tx, id);
    const job = { queue: "repositorygc", dedupeKey: String(id), payload: { repositoryId: id } } as const;
    await enqueue(tx, { ...job, delayMs: windowMs });
  });
}

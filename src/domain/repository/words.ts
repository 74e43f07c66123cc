/**
 * The words of repository names, kept beside the repositories for `domain/search`: one row for each place in a name where a
 * word begins, so that a search is a range of an index. Whoever makes, hides or ends a repository calls these.
 */

import type { Tx } from "../../db/db.ts";

/** The name from each of its words on: "api/web-ui" gives "api/web-ui", "web-ui" and "ui". The rule is that of sql/0006. */
export async function insertWords(tx: Tx, repository: { id: number; name: string }): Promise<void> {
  await tx.sql`/* words.insert */
    with recursive place (n) as (select 1 union all select n + 1 from place where n < ${repository.name.length})
    insert into repository_word (repository_id, word, namespace_id, public)
    select r.id, substr(r.name, p.n), r.namespace_id, r.visibility = 'public'
    from repository r join place p on p.n <= length(r.name)
    where r.id = ${repository.id} and substr(r.name, p.n, 1) not in ('.', '_', '-', '/')
      and (p.n = 1 or substr(r.name, p.n - 1, 1) in ('.', '_', '-', '/'))`;
}

/**
 * The same for all repositories of a namespace that came back: they have no words yet. A cross join, because SQLite takes its
 * order as given and reads each repository once.
 */
export async function insertWordsOfNamespace(tx: Tx, namespaceId: number): Promise<void> {
  await tx.sql`/* words.insert_all */
    with recursive place (n) as (
      select 1 union all
      select n + 1 from place
      where n < (select max(length(name)) from repository where namespace_id = ${namespaceId} and deleted_ms is null))
    insert into repository_word (repository_id, word, namespace_id, public)
    select r.id, substr(r.name, p.n), r.namespace_id, r.visibility = 'public'
    from repository r cross join place p
    where r.namespace_id = ${namespaceId} and r.deleted_ms is null and p.n <= length(r.name)
      and substr(r.name, p.n, 1) not in ('.', '_', '-', '/')
      and (p.n = 1 or substr(r.name, p.n - 1, 1) in ('.', '_', '-', '/'))`;
}

/** What is shown to everybody is searched in a range of its own. */
export async function setWordsVisibility(
  tx: Tx,
  repositoryId: number,
  visibility: "public" | "private",
): Promise<void> {
  await tx.sql`/* words.set_visibility */
    update repository_word set public = ${visibility === "public"} where repository_id = ${repositoryId}`;
}

export async function deleteWords(tx: Tx, repositoryId: number): Promise<void> {
  await tx.sql`/* words.delete */ delete from repository_word where repository_id = ${repositoryId}`;
}

/**
 * What keeps a tag, a manifest, a link or a blob, as pieces of SQL: the collection asks whether there is any of it, the
 * explanation which, and both ask with these words. So what one says the other does.
 */

import type { Db, SqlQuery } from "../../db/db.ts";

type Rule = SqlQuery<unknown>;

/** Of a lifetime in one repository: nobody can restore it any more. */
export function isBeyondWindow({ sql, dialect }: Db, windowMs: number): Rule {
  return sql`end_ms is not null and end_ms <= ${dialect.nowMs} - ${windowMs}`;
}

/** Epoch ms from which on a tag's lifetime or a deleted manifest cannot be restored any more. */
export function restorableUntilMs(endMs: number, windowSeconds: number): number {
  return endMs + windowSeconds * 1000;
}

/** Lifetimes `t` that keep the manifest `m`: each that is there, whether or not it has ended. */
export function tagsOf({ sql }: Db): Rule {
  return sql`tag t where t.manifest_id = m.id`;
}

/** Entries `c` of indexes that keep the manifest `m`. */
export function parentsOf({ sql }: Db): Rule {
  return sql`manifest_child c where c.child_id = m.id`;
}

/** The manifest `s` that the manifest `m` is about, and that keeps it. */
export function subjectOf({ sql }: Db): Rule {
  return sql`manifest s where m.subject_digest is not null
    and s.repository_id = m.repository_id and s.digest = m.subject_digest`;
}

/** Entries `n` of manifests that keep the link `l` of a repository to a blob. */
export function namersOf({ sql }: Db): Rule {
  return sql`manifest_blob n where n.repository_id = l.repository_id and n.blob_id = l.blob_id`;
}

/** Links `l` of repositories that keep the blob `b`. */
export function linksOf({ sql }: Db): Rule {
  return sql`repository_blob l where l.blob_id = b.id`;
}

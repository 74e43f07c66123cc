/** The tags of a repository at a glance, as its own page shows them. The whole list with its history is elsewhere. */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";

export interface TagSummary {
  readonly name: string;
  readonly startMs: number;
  readonly expiresMs: number | undefined;
  readonly manifestDigest: string;
  /** Of an image's layers, as in the history; undefined for an index. */
  readonly sizeBytes: number | undefined;
}

/** Living, visible tags by name, at most `limit`. */
export async function listTagSummaries(
  db: Db,
  repositoryId: number,
  page: { limit: number; nowMs: number },
): Promise<TagSummary[]> {
  const rows = await db.sql<{
    name: string;
    start_ms: number;
    expires_ms: number | null;
    digest: string;
    kind: "image" | "index";
    size_bytes: number;
  }>`/* tag.summaries */
    select t.name, t.start_ms, t.expires_ms, m.digest, m.kind,
           coalesce(m.compressed_size_bytes, m.layers_size_bytes) as size_bytes
    from tag t join manifest m on m.id = t.manifest_id
    where t.repository_id = ${repositoryId} and t.end_ms is null and t.hidden = false
      and (t.expires_ms is null or t.expires_ms > ${page.nowMs})
    order by t.name limit ${page.limit}`;
  return rows.map((row) => ({
    name: row.name,
    startMs: toNumber(row.start_ms),
    expiresMs: row.expires_ms === null ? undefined : toNumber(row.expires_ms),
    manifestDigest: row.digest,
    sizeBytes: row.kind === "index" ? undefined : toNumber(row.size_bytes),
  }));
}

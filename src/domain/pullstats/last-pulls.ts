/**
 * When tags were last pulled, for policies that go by it. A pull of the image counts however it was asked for: most clients
 * resolve a tag once and pull by digest, and of an index often only the image of one platform. So does a HEAD: who holds an
 * image asks by it whether that is still current, for months without a pull, and needs it when a machine is replaced.
 */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";

/** From a pull to its row take some seconds (`pull-counter.ts`); what is this old is written unless a process died. */
export const PULLS_WRITTEN_MS = 60_000;

/**
 * The last pull of each tag, epoch ms by tag id, without those that were never pulled: by its name, or of its manifest and
 * those in its index at any depth, by any reference. Takes some hundred tags of one repository.
 */
export async function findLastPulls(
  db: Db,
  repositoryId: number,
  tags: readonly { readonly id: number; readonly name: string; readonly manifestId: number }[],
): Promise<Map<number, number>> {
  const { sql, dialect } = db;
  const manifestIds = [...new Set(tags.map((tag) => tag.manifestId))];
  const byName = await sql<{ tag_name: string; last_pull_ms: number }>`/* pullstats.last_of_tags */
    select tag_name, last_pull_ms from tag_pull
    where repository_id = ${repositoryId} and ${dialect.inList(
      "tag_name",
      tags.map(({ name }) => name),
    )}`;
  // Cross joins, because SQLite takes their order as given: from the few manifests to their pulls.
  const byManifest = await sql<{ root_id: number; last_pull_ms: number }>`/* pullstats.last_of_manifests */
    with recursive held (root_id, id) as (
      select id, id from manifest where ${dialect.inList("id", manifestIds)}
      union
      select h.root_id, c.child_id from held h cross join manifest_child c
      where c.manifest_id = h.id and c.child_id is not null
    )
    select h.root_id,
           max(case when p.last_asked_ms > p.last_pull_ms then p.last_asked_ms else p.last_pull_ms end) as last_pull_ms
    from held h cross join manifest m cross join manifest_pull p
    where m.id = h.id and p.repository_id = ${repositoryId} and p.manifest_digest = m.digest
    group by h.root_id`;
  const ofName = new Map(byName.map((row) => [row.tag_name, toNumber(row.last_pull_ms)]));
  const ofManifest = new Map(byManifest.map((row) => [toNumber(row.root_id), toNumber(row.last_pull_ms)]));
  return new Map(
    tags.flatMap(({ id, name, manifestId }) => {
      const lastMs = Math.max(ofName.get(name) ?? 0, ofManifest.get(manifestId) ?? 0);
      return lastMs > 0 ? [[id, lastMs] as const] : [];
    }),
  );
}

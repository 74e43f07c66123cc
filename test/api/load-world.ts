/**
 * A large registry for `load.test.ts`, written straight against `sql/`: 100,000 repositories with their words, 100,000 tags
 * in one of them, 1,000 teams with one user in all. Takes some seconds; through the API it would take an hour.
 */

import type { Database } from "../../src/db/db.ts";
import { toNumber } from "../../src/db/decode.ts";

export const REPOSITORIES = 100_000;
export const TAGS = 100_000;
export const TEAMS = 1_000;

/** The organization `big` gets most of the repositories, `open` the public ones, the user `zoe` the rest. */
export interface LoadIds {
  readonly big: number;
  readonly open: number;
  readonly zoe: number;
  readonly alice: number;
  readonly mary: number;
}

/** How many repositories each of them has; all named `svc-000001-api` onwards. */
export const SHARES = { big: 60_000, open: 20_000, zoe: 20_000 } as const;

export async function seedLoad(db: Database, ids: LoadIds): Promise<void> {
  const nowMs = Date.now();
  await db.tx(async (tx) => {
    for (const [owner, visibility] of [
      ["big", "private"],
      ["open", "public"],
      ["zoe", "private"],
    ] as const) {
      await tx.sql`/* load.repositories */
        with recursive n (i) as (select 1 union all select i + 1 from n where i < ${SHARES[owner]})
        insert into repository (namespace_id, name, path, visibility, created_ms)
        select a.id, 'svc-' || substr(cast(1000000 + i as text), 2) || '-api',
               a.username || '/svc-' || substr(cast(1000000 + i as text), 2) || '-api',
               cast(${visibility} as text), cast(${nowMs} as bigint)
        from n join account a on a.id = ${ids[owner]}`;
    }
    // A name of three words has three rows; where they begin is the same in all of them.
    for (const begin of [1, 5, 12]) {
      await tx.sql`/* load.words */
        insert into repository_word (repository_id, word, namespace_id, public)
        select id, substr(name, cast(${begin} as integer)), namespace_id, visibility = 'public' from repository`;
    }
    await tx.sql`/* load.teams */
      with recursive n (i) as (select 1 union all select i + 1 from n where i < ${TEAMS})
      insert into team (organization_id, name, role, created_ms)
      select cast(${ids.big} as bigint), 'team-' || substr(cast(1000000 + i as text), 2), 'member', 1 from n`;
    await tx.sql`/* load.members */
      insert into team_member (team_id, account_id)
      select id, cast(${ids.mary} as bigint) from team where organization_id = ${ids.big} and name like 'team-%'`;
    // Each team reads one repository of its own, and all read the first.
    await tx.sql`/* load.team_roles */
      insert into repository_permission (repository_id, team_id, role)
      select r.id, t.id, 'read' from team t
      join repository r on r.path = 'big/svc-' || substr(t.name, 6) || '-api'
      where t.organization_id = ${ids.big} and t.name <> 'team-000001' and t.name like 'team-%'`;
    await tx.sql`/* load.shared_role */
      insert into repository_permission (repository_id, team_id, role)
      select r.id, t.id, 'read' from team t join repository r on r.path = 'big/svc-000001-api'
      where t.organization_id = ${ids.big} and t.name like 'team-%'`;
  });
  await seedTags(db, nowMs);
  // What autovacuum does by itself within a minute.
  if (db.engine === "postgres") await db.tx((tx) => tx.script("analyze"));
}

async function seedTags(db: Database, nowMs: number): Promise<void> {
  await db.tx(async (tx) => {
    const [row] = await tx.sql<{ id: number; repository_id: number }>`/* load.manifest */
      insert into manifest (repository_id, digest, kind, media_type, size_bytes, layers_size_bytes, created_ms, content)
      select id, ${`sha256:${"a".repeat(64)}`}, 'image', 'application/vnd.oci.image.manifest.v1+json', 2, 2,
             cast(${nowMs} as bigint), ${new TextEncoder().encode("{}")}
      from repository where path = 'big/svc-000001-api' returning id, repository_id`;
    await tx.sql`/* load.tags */
      with recursive n (i) as (select 1 union all select i + 1 from n where i < ${TAGS})
      insert into tag (repository_id, name, manifest_id, start_ms)
      select cast(${toNumber(row?.repository_id)} as bigint), 't' || substr(cast(1000000 + i as text), 2),
             cast(${toNumber(row?.id)} as bigint), cast(${nowMs} as bigint) + i from n`;
  });
}

/**
 * How many bytes come back, and when, as things stand: of blobs that nothing keeps for good. It goes from what waits for
 * collection to the blobs below it and asks of each what keeps it until when (`horizon.ts`), within a bound of rows.
 */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { Allowance } from "../../lib/allowance.ts";
import { Horizons } from "./horizon.ts";
import type { LinkKeepers } from "./what-keeps.ts";

/** Rows looked at for one answer: about a second. */
const ROWS_MAX = 200_000;
/** Of each thing that waits, and of the blobs in deleted repositories. */
const CANDIDATES_MAX = 10_000;
const MANIFESTS_AT_ONCE = 200;
const BLOBS_AT_ONCE = 50;
/** A blob in more repositories than this, where the first look did not find it kept, is left out. */
const LINKS_MAX = 20;
const HOUR_MS = 3600 * 1000;
const NEVER = Number.POSITIVE_INFINITY;

const BUCKETS = [
  { when: "now", withinMs: 0 },
  { when: "within a day", withinMs: 24 * HOUR_MS },
  { when: "within a week", withinMs: 7 * 24 * HOUR_MS },
  { when: "later", withinMs: NEVER },
] as const;

export interface Bucket {
  readonly when: (typeof BUCKETS)[number]["when"];
  blobs: number;
  bytes: number;
}

export interface Reclaimable {
  readonly buckets: readonly Bucket[];
  /** False: there was more to look at than the bound allows, and the figures are the least that comes back. */
  readonly isExact: boolean;
}

/** `nowMs` is the database's time. Blobs are in one bucket each: the one of the time when the last that keeps them ends. */
export async function findReclaimable(db: Db, nowMs: number, rowsMax = ROWS_MAX): Promise<Reclaimable> {
  const search = new Search(db, rowsMax);
  const buckets: Bucket[] = BUCKETS.map(({ when }) => ({ when, blobs: 0, bytes: 0 }));
  await search.eachBlob((sizeBytes, horizonMs) => {
    const index = BUCKETS.findIndex(({ withinMs }) => horizonMs <= nowMs + withinMs);
    const bucket = buckets[index];
    if (!bucket) return;
    bucket.blobs++;
    bucket.bytes += sizeBytes;
  });
  return { buckets, isExact: !search.isCut };
}

class Search {
  readonly #db: Db;
  readonly #allowance: Allowance;
  readonly #horizons: Horizons;
  #isCut = false;

  constructor(db: Db, rowsMax: number) {
    this.#db = db;
    this.#allowance = new Allowance(rowsMax);
    this.#horizons = new Horizons(db, this.#allowance);
  }

  get isCut(): boolean {
    return this.#isCut || this.#horizons.isCut || this.#allowance.isSpent;
  }

  /** Calls `found` for each blob that goes at some time. */
  async eachBlob(found: (sizeBytes: number, horizonMs: number) => void): Promise<void> {
    const ids = [...(await this.#findBlobs())];
    for (let at = 0; at < ids.length && !this.#allowance.isSpent; at += BLOBS_AT_ONCE) {
      const blobs = await this.#readBlobs(ids.slice(at, at + BLOBS_AT_ONCE));
      const links = await this.#horizons.loadLinks([...blobs.keys()]);
      const linksBy = Map.groupBy(links, ({ blobId }: LinkKeepers) => blobId);
      for (const [id, { sizeBytes, leaseMs }] of blobs) {
        const horizonMs = this.#horizons.ofBlob(leaseMs, linksBy.get(id) ?? []);
        if (horizonMs < NEVER) found(sizeBytes, horizonMs);
      }
    }
  }

  /**
   * Those of these blobs that may go, with size and lease. Layers that others share are found kept at the first look: by the
   * newest manifest that names them in the first or the last of their repositories.
   */
  async #readBlobs(ids: readonly number[]): Promise<Map<number, { sizeBytes: number; leaseMs: number }>> {
    const { sql, dialect } = this.#db;
    const newestIn = (end: "min" | "max") => {
      const repository = end === "min" ? sql`min(l.repository_id)` : sql`max(l.repository_id)`;
      return sql`(select max(n.manifest_id) from manifest_blob n where n.blob_id = b.id
        and n.repository_id = (select ${repository} from repository_blob l where l.blob_id = b.id))`;
    };
    const rows = await sql<{
      id: number;
      size_bytes: number;
      lease_until_ms: number;
      links: unknown;
      first_id: number | null;
      last_id: number | null;
    }>`/* gc_status.blobs */
      select b.id, b.size_bytes, b.lease_until_ms, ${newestIn("min")} as first_id, ${newestIn("max")} as last_id,
             (select count(*) from (select 1 as one from repository_blob l where l.blob_id = b.id
                                    limit ${LINKS_MAX + 1}) linked) as links
      from blob b where ${dialect.inList("b.id", ids)}`;
    await this.#allowance.spend(rows.length);
    const namers = (row: (typeof rows)[number]) =>
      [row.first_id, row.last_id].flatMap((id) => (id === null ? [] : toNumber(id)));
    await this.#horizons.load(rows.flatMap(namers));
    const open = rows.filter((row) => namers(row).every((id) => this.#horizons.ofManifest(id) < NEVER));
    const rare = open.filter((row) => toNumber(row.links) <= LINKS_MAX);
    if (rare.length < open.length) this.#isCut = true;
    return new Map(
      rare.map((row) => [
        toNumber(row.id),
        { sizeBytes: toNumber(row.size_bytes), leaseMs: toNumber(row.lease_until_ms) },
      ]),
    );
  }

  /** Blobs that may go: named by manifests that go, let go of, or in deleted repositories. */
  async #findBlobs(): Promise<Set<number>> {
    const { sql } = this.#db;
    const blobs = new Set<number>();
    const add = (ids: readonly number[]) => {
      for (const id of ids) blobs.add(id);
    };
    add(await this.#candidates(sql`select id from blob where lease_until_ms > 0 order by lease_until_ms, id`));
    add(
      await this.#candidates(sql`select blob_id as id from repository_blob where lease_until_ms > 0
        order by lease_until_ms, repository_id`),
    );
    add(
      await this.#candidates(sql`select l.blob_id as id
        from (select id from repository where deleted_ms > 0 order by deleted_ms limit ${CANDIDATES_MAX}) r
        join repository_blob l on l.repository_id = r.id`),
    );
    const manifests = [...(await this.#findManifests())];
    for (let at = 0; at < manifests.length && !this.#allowance.isSpent; at += MANIFESTS_AT_ONCE) {
      const batch = manifests.slice(at, at + MANIFESTS_AT_ONCE);
      add(
        await this.#candidates(
          sql`select distinct blob_id as id from manifest_blob where ${this.#db.dialect.inList("manifest_id", batch)}`,
        ),
      );
    }
    return blobs;
  }

  /** Manifests that go at some time: those with an appointment or a tag that ends, and what they alone keep. */
  async #findManifests(): Promise<Set<number>> {
    const { sql } = this.#db;
    const going = new Set<number>();
    const seen = new Set<number>();
    let next = [
      ...(await this.#candidates(sql`select id from manifest where lease_until_ms > 0 order by lease_until_ms, id`)),
      ...(await this.#candidates(sql`select t.manifest_id as id
        from (select repository_id from gc_repository order by due_ms, repository_id limit ${CANDIDATES_MAX}) g
        join tag t on t.repository_id = g.repository_id and t.end_ms is not null`)),
      ...(await this.#candidates(
        sql`select manifest_id as id from tag where end_ms is null and expires_ms > 0 order by expires_ms`,
      )),
    ];
    while (next.length > 0 && !this.#allowance.isSpent) {
      const fresh = [...new Set(next)].filter((id) => !seen.has(id));
      for (const id of fresh) seen.add(id);
      await this.#horizons.load(fresh);
      const gone = fresh.filter((id) => this.#horizons.ofManifest(id) < NEVER);
      for (const id of gone) going.add(id);
      next = await this.#below(gone);
    }
    return going;
  }

  /** Images of these indexes, and what refers to these subjects. */
  async #below(ids: readonly number[]): Promise<number[]> {
    const { sql, dialect } = this.#db;
    const below: number[] = [];
    for (let at = 0; at < ids.length && !this.#allowance.isSpent; at += MANIFESTS_AT_ONCE) {
      const batch = ids.slice(at, at + MANIFESTS_AT_ONCE);
      const children = sql`select child_id as id from manifest_child
        where child_id is not null and ${dialect.inList("manifest_id", batch)}`;
      const referrers = sql`select r.id from manifest m
        join manifest r on r.repository_id = m.repository_id and r.subject_digest = m.digest
        where ${dialect.inList("m.id", batch)}`;
      below.push(...(await this.#candidates(children)), ...(await this.#candidates(referrers)));
    }
    return below;
  }

  /** Ids that a query finds, at most 10,000. */
  async #candidates(query: ReturnType<Db["sql"]>): Promise<number[]> {
    if (this.#allowance.isSpent) return [];
    const rows = await this.#db.sql<{ id: number }>`/* gc_status.candidates */ ${query} limit ${CANDIDATES_MAX}`;
    await this.#allowance.spend(rows.length);
    if (rows.length === CANDIDATES_MAX) this.#isCut = true;
    return rows.map((row) => toNumber(row.id));
  }
}

/**
 * Whether manifests would be kept for good if certain tags were gone: by another living tag, by an index that is kept, or as
 * a referrer of a subject that is. Leases and the time machine keep them for a time only, and do not count.
 */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { Allowance } from "../../lib/allowance.ts";

/** Manifests in one question. */
export const MANIFESTS_AT_ONCE = 200;

/** An edge: `upper` keeps `lower`. */
interface EdgeRow {
  upper: number;
  lower: number;
}

export class KeptWithout {
  readonly #db: Db;
  readonly #gone: ReadonlySet<number>;
  readonly #nowMs: number;
  readonly #allowance: Allowance;
  /** What is known of manifests, by id. */
  readonly #kept = new Map<number, boolean>();

  /** `gone`: ids of the tags that are thought away. */
  constructor(db: Db, options: { gone: ReadonlySet<number>; nowMs: number; allowance: Allowance }) {
    this.#db = db;
    this.#gone = options.gone;
    this.#nowMs = options.nowMs;
    this.#allowance = options.allowance;
  }

  /** Of these manifests, those that are kept. What could not be found out within the allowance is taken to be. */
  async kept(ids: Iterable<number>): Promise<Set<number>> {
    const asked = new Set(ids);
    await this.#findOut([...asked].filter((id) => !this.#kept.has(id)));
    return new Set([...asked].filter((id) => this.#kept.get(id) !== false));
  }

  /** Climbs to all that may keep these, and comes down again from what does. */
  async #findOut(ids: readonly number[]): Promise<void> {
    const seen = new Set(ids);
    const lowersOf = new Map<number, number[]>();
    const sure: number[] = [];
    const queue = [...seen];
    while (queue.length > 0 && !this.#allowance.isSpent) {
      const batch = queue.splice(0, MANIFESTS_AT_ONCE);
      const tagged = await this.#tagged(batch);
      sure.push(...tagged);
      for (const { upper, lower } of await this.#uppers(batch.filter((id) => !tagged.has(id)))) {
        const lowers = lowersOf.get(upper);
        if (lowers) lowers.push(lower);
        else lowersOf.set(upper, [lower]);
        const known = this.#kept.get(upper);
        if (known) sure.push(upper);
        else if (known === undefined && !seen.has(upper)) {
          seen.add(upper);
          queue.push(upper);
        }
      }
    }
    const isWhole = queue.length === 0;
    for (let id = sure.pop(); id !== undefined; id = sure.pop()) {
      seen.delete(id);
      this.#kept.set(id, true);
      for (const lower of lowersOf.get(id) ?? []) if (seen.has(lower)) sure.push(lower);
    }
    if (isWhole) for (const id of seen) this.#kept.set(id, false);
  }

  async #tagged(ids: readonly number[]): Promise<Set<number>> {
    const { sql, dialect } = this.#db;
    const rows = await sql<{ id: number; manifest_id: number }>`/* freed.tags */
      select id, manifest_id from tag
      where ${dialect.inList("manifest_id", ids)} and end_ms is null
        and (expires_ms is null or expires_ms > ${this.#nowMs})`;
    await this.#allowance.spend(rows.length);
    return new Set(rows.filter((row) => !this.#gone.has(toNumber(row.id))).map((row) => toNumber(row.manifest_id)));
  }

  async #uppers(ids: readonly number[]): Promise<EdgeRow[]> {
    if (ids.length === 0) return [];
    const { sql, dialect } = this.#db;
    const parents = await sql<EdgeRow>`/* freed.parents */
      select manifest_id as upper, child_id as lower from manifest_child where ${dialect.inList("child_id", ids)}`;
    const subjects = await sql<EdgeRow>`/* freed.subjects */
      select s.id as upper, m.id as lower
      from manifest m cross join manifest s
      where ${dialect.inList("m.id", ids)} and m.subject_digest is not null
        and s.repository_id = m.repository_id and s.digest = m.subject_digest`;
    await this.#allowance.spend(parents.length + subjects.length);
    return [...parents, ...subjects].map(({ upper, lower }) => ({ upper: toNumber(upper), lower: toNumber(lower) }));
  }
}

/** The manifests themselves and all below: images of indexes, and what refers to them, at any depth. */
export async function withAllBelow(db: Db, ids: Iterable<number>, allowance: Allowance): Promise<Set<number>> {
  const { sql, dialect } = db;
  const found = new Set(ids);
  const queue = [...found];
  while (queue.length > 0 && !allowance.isSpent) {
    const batch = queue.splice(0, MANIFESTS_AT_ONCE);
    const children = await sql<{ id: number }>`/* freed.children */
      select child_id as id from manifest_child
      where ${dialect.inList("manifest_id", batch)} and child_id is not null`;
    const referrers = await sql<{ id: number }>`/* freed.referrers */
      select r.id from manifest m cross join manifest r
      where ${dialect.inList("m.id", batch)} and r.repository_id = m.repository_id and r.subject_digest = m.digest`;
    await allowance.spend(children.length + referrers.length);
    for (const row of [...children, ...referrers]) {
      const id = toNumber(row.id);
      if (found.has(id)) continue;
      found.add(id);
      queue.push(id);
    }
  }
  return found;
}

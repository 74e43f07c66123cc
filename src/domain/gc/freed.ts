/**
 * How many bytes come back when tags end: those of the blobs that they alone keep, once the time machine and the leases have
 * let go of them. Nothing is changed, and each question is about a few rows.
 */

import type { Db, SqlQuery } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { Allowance } from "../../lib/allowance.ts";
import { KeptWithout, MANIFESTS_AT_ONCE, withAllBelow } from "./kept-without.ts";

export interface Freed {
  /** Bytes of blobs that no repository of the namespace keeps any more. */
  readonly namespaceBytes: number;
  /** Of those, bytes of blobs that no repository of the registry keeps: the store's. */
  readonly registryBytes: number;
}

/** Blobs and links in one question. */
const AT_ONCE = 200;

/** A blob that manifests name which would go, and the repositories they are in. */
interface Named {
  readonly id: number;
  readonly sizeBytes: number;
  readonly repositoryIds: Set<number>;
}

interface FreedOptions {
  readonly namespaceId: number;
  readonly nowMs: number;
  /** Once it is spent, what was found stands: a part of what would come back. */
  readonly allowance: Allowance;
}

/** `tags` are living tags of the namespace, with the ids of their manifests. */
export async function freedByTags(
  db: Db,
  tags: readonly { readonly id: number; readonly manifestId: number }[],
  options: FreedOptions,
): Promise<Freed> {
  const { nowMs, allowance, namespaceId } = options;
  const gone = new Set(tags.map(({ id }) => id));
  const manifests = new KeptWithout(db, { gone, nowMs, allowance });
  const below = await withAllBelow(db, new Set(tags.map(({ manifestId }) => manifestId)), allowance);
  const kept = await manifests.kept(below);
  const named = await findNamed(
    db,
    [...below].filter((id) => !kept.has(id)),
    allowance,
  );
  const links = new Links(db, manifests, allowance);
  await links.dropKept(named);
  let namespaceBytes = 0;
  let registryBytes = 0;
  for (const blobs of chunksOf([...named.values()])) {
    const shared = await links.shared(blobs);
    for (const blob of blobs) {
      const by = shared.has(blob.id) ? await links.keptElsewhere(blob, namespaceId) : "nobody";
      if (allowance.isSpent) return { namespaceBytes, registryBytes };
      if (by === "namespace") continue;
      namespaceBytes += blob.sizeBytes;
      if (by === "nobody") registryBytes += blob.sizeBytes;
    }
  }
  return { namespaceBytes, registryBytes };
}

async function findNamed(db: Db, manifestIds: readonly number[], allowance: Allowance): Promise<Map<number, Named>> {
  const named = new Map<number, Named>();
  for (let at = 0; at < manifestIds.length && !allowance.isSpent; at += MANIFESTS_AT_ONCE) {
    const batch = manifestIds.slice(at, at + MANIFESTS_AT_ONCE);
    const rows = await db.sql<{ blob_id: number; repository_id: number; size_bytes: number }>`/* freed.blobs */
      select distinct n.blob_id, n.repository_id, b.size_bytes
      from manifest_blob n join blob b on b.id = n.blob_id
      where ${db.dialect.inList("n.manifest_id", batch)} and b.state = 'live'`;
    await allowance.spend(rows.length);
    for (const row of rows) {
      const id = toNumber(row.blob_id);
      const blob = named.get(id) ?? { id, sizeBytes: toNumber(row.size_bytes), repositoryIds: new Set() };
      blob.repositoryIds.add(toNumber(row.repository_id));
      named.set(id, blob);
    }
  }
  return named;
}

interface LinkRow {
  repository_id: number;
  blob_id: number;
  namespace_id: number;
  /** Lowest and highest id of the manifests of the repository that name the blob. */
  first_id: number | null;
  last_id: number | null;
}

interface Link {
  readonly repositoryId: number;
  readonly blobId: number;
  readonly namespaceId: number;
  readonly isKept: boolean;
}

/** Repositories' links to blobs, and whether a manifest that is kept names the blob there. */
class Links {
  readonly #db: Db;
  readonly #manifests: KeptWithout;
  readonly #allowance: Allowance;

  constructor(db: Db, manifests: KeptWithout, allowance: Allowance) {
    this.#db = db;
    this.#manifests = manifests;
    this.#allowance = allowance;
  }

  /** Takes out what another manifest keeps in the repository itself: by far the most layers that are shared at all. */
  async dropKept(named: Map<number, Named>): Promise<void> {
    const byRepository = new Map<number, number[]>();
    for (const { id, repositoryIds } of named.values()) {
      for (const repositoryId of repositoryIds) {
        const ids = byRepository.get(repositoryId);
        if (ids) ids.push(id);
        else byRepository.set(repositoryId, [id]);
      }
    }
    for (const [repositoryId, blobIds] of byRepository) {
      for (const batch of chunksOf(blobIds)) {
        if (this.#allowance.isSpent) return named.clear();
        const { sql, dialect } = this.#db;
        const links = await this.#look(
          sql`l.repository_id = ${repositoryId} and ${dialect.inList("l.blob_id", batch)}`,
        );
        for (const { blobId, isKept } of links) if (isKept) named.delete(blobId);
      }
    }
  }

  /** Of these blobs, those that more repositories link than those that are known. */
  async shared(blobs: readonly Named[]): Promise<Set<number>> {
    const { sql, dialect } = this.#db;
    const rows = await sql<{ id: number; first_id: number | null; last_id: number | null }>`/* freed.links */
      select b.id, (select min(l.repository_id) from repository_blob l where l.blob_id = b.id) as first_id,
             (select max(l.repository_id) from repository_blob l where l.blob_id = b.id) as last_id
      from blob b where ${dialect.inList(
        "b.id",
        blobs.map(({ id }) => id),
      )}`;
    await this.#allowance.spend(rows.length);
    return new Set(rows.filter((row) => row.first_id !== row.last_id).map((row) => toNumber(row.id)));
  }

  /** Whether another repository keeps the blob: one of the namespace, or one elsewhere. */
  async keptElsewhere(blob: Named, namespaceId: number): Promise<"namespace" | "registry" | "nobody"> {
    const { sql } = this.#db;
    let isKept = false;
    for (let after = 0; !this.#allowance.isSpent; ) {
      const links = await this.#look(sql`l.blob_id = ${blob.id} and l.repository_id > ${after}`);
      for (const link of links) {
        if (!link.isKept || blob.repositoryIds.has(link.repositoryId)) continue;
        if (link.namespaceId === namespaceId) return "namespace";
        isKept = true;
      }
      const last = links.at(-1);
      if (!last || links.length < AT_ONCE) break;
      after = last.repositoryId;
    }
    return isKept ? "registry" : "nobody";
  }

  /** Links of repositories that are not deleted, in the order of repository and blob, at most `AT_ONCE`. */
  async #look(where: SqlQuery<unknown>): Promise<Link[]> {
    const { sql } = this.#db;
    const rows = await sql<LinkRow>`/* freed.namers */
      select l.repository_id, l.blob_id, r.namespace_id,
             (select min(n.manifest_id) from manifest_blob n
              where n.repository_id = l.repository_id and n.blob_id = l.blob_id) as first_id,
             (select max(n.manifest_id) from manifest_blob n
              where n.repository_id = l.repository_id and n.blob_id = l.blob_id) as last_id
      from repository_blob l join repository r on r.id = l.repository_id
      where ${where} and r.deleted_ms is null
      order by l.repository_id, l.blob_id limit ${AT_ONCE}`;
    await this.#allowance.spend(rows.length);
    const ends = rows.flatMap((row) => [row.first_id, row.last_id].flatMap((id) => (id === null ? [] : toNumber(id))));
    const kept = await this.#manifests.kept(ends);
    const links: Link[] = [];
    for (const row of rows) {
      const [repositoryId, blobId] = [toNumber(row.repository_id), toNumber(row.blob_id)];
      const [firstId, lastId] = [toNumber(row.first_id ?? 0), toNumber(row.last_id ?? 0)];
      const isKept =
        kept.has(firstId) || kept.has(lastId) || (await this.#isNamedBetween(repositoryId, blobId, firstId, lastId));
      links.push({ repositoryId, blobId, namespaceId: toNumber(row.namespace_id), isKept });
    }
    return links;
  }

  /** The manifests between the two, which are known, some at a time, the newest first. */
  async #isNamedBetween(repositoryId: number, blobId: number, firstId: number, lastId: number): Promise<boolean> {
    for (let before = lastId; firstId < before && !this.#allowance.isSpent; ) {
      const rows = await this.#db.sql<{ manifest_id: number }>`/* freed.namers_between */
        select manifest_id from manifest_blob
        where repository_id = ${repositoryId} and blob_id = ${blobId}
          and manifest_id > ${firstId} and manifest_id < ${before}
        order by manifest_id desc limit ${AT_ONCE}`;
      await this.#allowance.spend(rows.length);
      const ids = rows.map((row) => toNumber(row.manifest_id));
      if ((await this.#manifests.kept(ids)).size > 0) return true;
      const last = ids.at(-1);
      if (last === undefined || ids.length < AT_ONCE) return false;
      before = last;
    }
    return false;
  }
}

function chunksOf<T>(all: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(all.length / AT_ONCE) }, (_, n) => all.slice(n * AT_ONCE, (n + 1) * AT_ONCE));
}

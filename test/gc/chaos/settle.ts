/**
 * What is left when nobody works any more. Everything is given the time it needs: until no lease runs and nothing waits for
 * collection. Then store and database must hold what the clients were promised, and not a byte or a row more.
 */
import type { Database } from "../../../src/db/db.ts";
import { toNumber } from "../../../src/db/decode.ts";
import { fragment } from "../../../src/db/sql.ts";
import { findDrift } from "../../../src/domain/quota/reconcile.ts";
import { sweepUploads } from "../../../src/domain/upload/sweep.ts";
import { StoreCheck } from "../../crash/store-check.ts";
import type { RepositoryModel } from "./model.ts";
import type { ChaosSite } from "./site.ts";

/** Leases of blobs and jobs are a minute long, uploads live for one, and a job that was cut off may have to wait twice. */
const SETTLED_WITHIN_MS = 10 * 60_000;
/** What no session tells of is cleaned away when it is older than any session can be: by a clock that is ahead. */
const AHEAD_MS = 24 * 3600 * 1000;

/** What must be nought when all is settled, by what it counts. */
const WAITING: Readonly<Record<string, string>> = {
  "upload sessions": "upload_session",
  "leases of blobs": "blob where lease_until_ms > 0",
  "blobs that are being deleted": "blob where state <> 'live'",
  "leases of links": "repository_blob where lease_until_ms > 0 or deleted_ms is not null",
  "leases of manifests": "manifest where lease_until_ms is not null or deleted_ms is not null",
  "repositories that are due": "gc_repository",
  "deleted repositories": "repository where deleted_ms is not null",
  "jobs of the collection": "job where queue in ('repositorygc', 'namespacegc')",
  "ended tags": "tag where end_ms is not null",
  "namespaces to be counted": "namespace_usage where backfill_state <> 'complete'",
};

/** Rows that tell of something that is gone. */
const GONE: Readonly<Record<string, string>> = {
  "blobs that nobody links": "blob b where not exists (select 1 from repository_blob l where l.blob_id = b.id)",
  "links that no manifest needs": `repository_blob l where not exists (
    select 1 from manifest_blob n where n.repository_id = l.repository_id and n.blob_id = l.blob_id)`,
  "manifests that miss a blob": "manifest_missing_blob",
  "blobs without a store": "blob b where not exists (select 1 from blob_placement p where p.blob_id = b.id)",
};

export interface Settled {
  readonly blobs: number;
  readonly bytes: number;
  readonly tookMs: number;
  readonly wrong: readonly string[];
}

/** Waits until nothing is due. With `ageing` leases that no living worker holds are made to end. */
export async function settle(site: ChaosSite, models: readonly RepositoryModel[], ageing: boolean): Promise<Settled> {
  const startedMs = performance.now();
  await settled(site, ageing);
  const tookMs = Math.round(performance.now() - startedMs);
  const { db } = site.app;
  const wrong: string[] = [];
  const note = (sentence: string): void => void wrong.push(sentence);

  const expected = new Map(models.flatMap((model) => [...model.blobs()]));
  const stored = await storedBlobs(site);
  compare("the store", stored, expected, note);
  const rows = await db.sql<{ digest: string; size_bytes: number }>`/* chaos.blobs */
    select digest, size_bytes from blob`;
  compare("the database", new Map(rows.map((row) => [row.digest, toNumber(row.size_bytes)])), expected, note);
  for (const model of models) await compareRepository(db, model, note);
  for (const [what, rowsOf] of Object.entries(GONE)) {
    const count = await countOf(db, rowsOf);
    if (count > 0) note(`there are ${count} ${what}`);
  }
  const uploads = [...(await site.store.uploads()), ...(await site.store.list("uploads/")).map(({ key }) => key)];
  if (uploads.length > 0) note(`uploads were left in the store: ${uploads.slice(0, 5)}`);
  for (const sentence of await driftOf(db, expected)) note(sentence);
  const { wrong: unsound } = await new StoreCheck(site).run({ hashAll: true });
  wrong.push(...unsound);
  return { blobs: stored.size, bytes: sumOf(stored.values()), tookMs, wrong };
}

async function settled(site: ChaosSite, ageing: boolean): Promise<void> {
  const { app } = site;
  const untilMs = performance.now() + SETTLED_WITHIN_MS;
  for (;;) {
    if (ageing) await endLeases(app.db);
    if (ageing) await sweepUploads(app);
    const waiting: string[] = [];
    for (const [what, rows] of Object.entries(WAITING)) {
      const count = await countOf(app.db, rows);
      if (count > 0) waiting.push(`${count} ${what}`);
    }
    if (waiting.length === 0) break;
    if (performance.now() > untilMs)
      throw new Error(`not settled after ${SETTLED_WITHIN_MS} ms: ${waiting.join(", ")}`);
    await Bun.sleep(200);
  }
  // Not by turns with the servers, which go by their own clocks.
  const { storage } = app;
  for (const location of storage.locations) {
    while ((await storage.driver(location).cleanUploads(app.clock.nowMs() + AHEAD_MS, 100)) > 0);
  }
}

/** Nobody pushes any more. Deletions that a living worker has under way go on beside another's. */
async function endLeases(db: Database): Promise<void> {
  await db.tx(async (tx) => {
    await tx.sql`/* chaos.over */ update blob set lease_until_ms = 1 where lease_until_ms > 1`;
    await tx.sql`/* chaos.over */ update repository_blob set lease_until_ms = 1 where lease_until_ms > 1`;
    await tx.sql`/* chaos.over */ update manifest set lease_until_ms = 1 where lease_until_ms > 1`;
    await tx.sql`/* chaos.over */ update upload_session set expires_ms = 1`;
    await tx.sql`/* chaos.over */
      update job set due_ms = 1, lease_until_ms = 1
      where queue in ('repositorygc', 'namespacegc') and attempts_left > 0 and due_ms > 1`;
  });
}

async function storedBlobs(site: ChaosSite): Promise<Map<string, number>> {
  const objects = await site.store.list("sha");
  return new Map(
    objects.map(({ key, sizeBytes }) => {
      const [algorithm = "", , hex = ""] = key.split("/");
      return [`${algorithm}:${hex}`, sizeBytes];
    }),
  );
}

function compare(
  where: string,
  actual: ReadonlyMap<string, number>,
  expected: ReadonlyMap<string, number>,
  note: (sentence: string) => void,
): void {
  const extra = [...actual.keys()].filter((digest) => !expected.has(digest));
  const missing = [...expected.keys()].filter((digest) => !actual.has(digest));
  const other = [...expected].filter(([digest, size]) => actual.has(digest) && actual.get(digest) !== size);
  const some = (digests: readonly string[]) => digests.slice(0, 3).join(" ");
  if (extra.length > 0) note(`${where} holds ${extra.length} blobs that nobody needs: ${some(extra)}`);
  if (missing.length > 0) note(`${where} lacks ${missing.length} blobs: ${some(missing)}`);
  if (other.length > 0) note(`${where} has other sizes of ${some(other.map(([digest]) => digest))}`);
  const [have, need] = [sumOf(actual.values()), sumOf(expected.values())];
  if (have !== need) note(`${where} holds ${have} bytes, ${need} are needed`);
}

async function compareRepository(
  db: Database,
  model: RepositoryModel,
  note: (sentence: string) => void,
): Promise<void> {
  const inIt = fragment(["(select id from repository where path = ", ")"], [model.path]);
  const manifests = await db.sql<{ digest: string }>`/* chaos.manifests */
    select digest from manifest where repository_id in ${inIt}`;
  const tags = await db.sql<{ name: string; digest: string }>`/* chaos.tags */
    select t.name, m.digest from tag t join manifest m on m.id = t.manifest_id where t.repository_id in ${inIt}`;
  const links = await db.sql<{ digest: string }>`/* chaos.links */
    select b.digest from repository_blob l join blob b on b.id = l.blob_id where l.repository_id in ${inIt}`;
  const lists = {
    manifests: [manifests.map((row) => row.digest), [...model.live()]],
    tags: [tags.map((row) => `${row.name}=${row.digest}`), [...model.tags].map(([tag, digest]) => `${tag}=${digest}`)],
    links: [links.map((row) => row.digest), [...model.blobs().keys()]],
  } as const;
  for (const [what, [actual, expected]] of Object.entries(lists)) {
    if (actual.toSorted().join() === expected.toSorted().join()) continue;
    const extra = actual.filter((each) => !expected.includes(each));
    const missing = expected.filter((each) => !actual.includes(each));
    note(`${what} of ${model.path}: ${extra.length} too many (${extra[0]}), ${missing.length} missing (${missing[0]})`);
  }
}

/** What was counted for quotas beside all this, held against a full recount and against what clients were promised. */
async function driftOf(db: Database, expected: ReadonlyMap<string, number>): Promise<string[]> {
  const rows = await db.sql<{ namespace_id: number; size_bytes: number }>`/* chaos.usage */
    select namespace_id, size_bytes from namespace_usage`;
  const wrong: string[] = [];
  for (const row of rows) {
    const drift = await findDrift(db, toNumber(row.namespace_id), new AbortController().signal);
    if (drift) wrong.push(`the kept totals drifted: ${JSON.stringify(drift)}`);
  }
  // All repositories are in one namespace, and all that is left is named by manifests.
  const [kept, needed] = [Math.max(0, ...rows.map((row) => toNumber(row.size_bytes))), sumOf(expected.values())];
  if (kept !== needed) wrong.push(`${kept} bytes were counted, ${needed} are needed`);
  return wrong;
}

function sumOf(sizes: Iterable<number>): number {
  return [...sizes].reduce((total, size) => total + size, 0);
}

async function countOf(db: Database, rows: string): Promise<number> {
  const [row] = await db.sql<{ n: number }>`/* chaos.count */ select count(*) as n from ${fragment([rows])}`;
  return toNumber(row?.n ?? 0);
}

/**
 * Why a tag, a manifest, a blob or a repository is kept, or when it goes: what `berth gc --dry-run` shows. It asks with the
 * conditions of the collection (`rules.ts`) and says what holds as things stand; a push or a policy may change it.
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { databaseNowMs } from "../../db/now.ts";
import { RegistryError } from "../../errors.ts";
import { type Digest, isDigestLike, parseDigest } from "../../oci/digest.ts";
import { type ParsedRepositoryPath, parseRepositoryPath } from "../../oci/names.ts";
import { parseTag } from "../../oci/reference.ts";
import { pathRules } from "../blob/blob.ts";
import { findLast, type Reason, Reasons } from "./explain-reasons.ts";
import { restorableUntilMs } from "./rules.ts";
import { findPurgeTimes, tagKeeper } from "./what-keeps.ts";

/**
 * - kept: something without an end keeps it;
 * - waits: nothing keeps it after `goesMs`;
 * - due: the next round takes it;
 * - deleting: its bytes are being deleted just now.
 */
export type KeptState = "kept" | "waits" | "due" | "deleting";

export interface Explanation {
  readonly kind: "repository" | "tag" | "manifest" | "blob";
  /** As it is asked for. */
  readonly name: string;
  readonly state: KeptState;
  /** Epoch ms; undefined in every state but "waits". */
  readonly goesMs: number | undefined;
  /** Of a blob or a manifest. */
  readonly sizeBytes: number | undefined;
  /** What keeps it, the longest first; at most 10, and of each of them again. */
  readonly reasons: readonly Reason[];
  /** There is more than was looked at; then "kept" may be too much said. */
  readonly isCut: boolean;
  /** Of a tag: the manifest that it points at, or last did. */
  readonly content: Explanation | undefined;
}

type ExplainApp = Pick<App, "db" | "config">;

/** Lifetimes of a tag that are shown. */
const LIFETIMES_MAX = 20;

/**
 * Explains `NAMESPACE/REPOSITORY`, `…:TAG`, `…@DIGEST` (a manifest there, else a blob) or `DIGEST` (a blob). Throws
 * `not_found`, and what the parsers of names throw.
 */
export async function explainKept(app: ExplainApp, target: string): Promise<Explanation> {
  const { db } = app;
  const at = target.lastIndexOf("@");
  const colon = target.lastIndexOf(":");
  const pathOf = (end: number) => parseRepositoryPath(target.slice(0, end), pathRules(app.config));
  if (at !== -1) {
    const digest = parseDigest(target.slice(at + 1));
    const repositoryId = await getRepositoryId(db, pathOf(at));
    return explainDigest(db, target, repositoryId, digest);
  }
  if (isDigestLike(target)) return explainBlob(db, parseDigest(target));
  if (colon > target.lastIndexOf("/")) {
    const name = parseTag(target.slice(colon + 1));
    return explainTag(db, target, await getRepositoryId(db, pathOf(colon)), name);
  }
  return explainRepository(db, pathOf(target.length));
}

async function getRepositoryId(db: Db, { path }: ParsedRepositoryPath): Promise<number> {
  const [row] = await db.sql<{ id: number }>`/* gc_explain.repository */
    select id from repository where path = ${path} and deleted_ms is null`;
  if (!row) throw unknown(`there is no repository "${path}"`);
  return toNumber(row.id);
}

function unknown(message: string): RegistryError {
  return new RegistryError("not_found", { message });
}

/** State and time from the reasons that still hold. */
function judge(goesMs: number, nowMs: number): Pick<Explanation, "state" | "goesMs"> {
  if (goesMs === Number.POSITIVE_INFINITY) return { state: "kept", goesMs: undefined };
  return goesMs > nowMs ? { state: "waits", goesMs } : { state: "due", goesMs: undefined };
}

async function explainTag(db: Db, target: string, repositoryId: number, name: string): Promise<Explanation> {
  const nowMs = await databaseNowMs(db);
  const rows = await db.sql<
    Parameters<typeof tagKeeper>[0] & { manifest_id: number; digest: string; window_s: number }
  >`/* gc_explain.lifetimes */
    select t.name, t.start_ms, t.end_ms, t.expires_ms, t.manifest_id, m.digest, a.tag_expiration_s as window_s
    from tag t join manifest m on m.id = t.manifest_id
      join repository r on r.id = t.repository_id join account a on a.id = r.namespace_id
    where t.repository_id = ${repositoryId} and t.name = ${name}
    order by t.start_ms desc limit ${LIFETIMES_MAX}`;
  const [last] = rows;
  if (!last) throw unknown(`"${target}" has no tag now, and none that could be restored`);
  const reasons = new Reasons(db, nowMs);
  const lifetimes = rows.map((row) => ({ tag: tagKeeper(row, toNumber(row.window_s)), digest: row.digest }));
  const [manifest] = await explainManifests(db, reasons, nowMs, [toNumber(last.manifest_id)]);
  return {
    kind: "tag",
    name: target,
    ...judge(Math.max(...lifetimes.map(({ tag }) => tag.untilMs)), nowMs),
    sizeBytes: undefined,
    reasons: findLast(lifetimes.map(({ tag, digest }) => reasons.ofLifetime(tag, digest))),
    isCut: rows.length === LIFETIMES_MAX,
    content: manifest,
  };
}

async function explainDigest(db: Db, target: string, repositoryId: number, digest: Digest): Promise<Explanation> {
  const nowMs = await databaseNowMs(db);
  const [row] = await db.sql<{ id: number }>`/* gc_explain.manifest */
    select id from manifest where repository_id = ${repositoryId} and digest = ${digest}`;
  if (!row) {
    const [link] = await db.sql`/* gc_explain.link */
      select l.blob_id from repository_blob l join blob b on b.id = l.blob_id
      where l.repository_id = ${repositoryId} and b.digest = ${digest}`;
    if (link) return explainBlob(db, digest);
    throw unknown(`the repository of "${target}" has neither a manifest nor a blob of that digest`);
  }
  const [found] = await explainManifests(db, new Reasons(db, nowMs), nowMs, [toNumber(row.id)]);
  if (!found) throw unknown(`"${target}" was collected just now`);
  return { ...found, name: target };
}

async function explainManifests(db: Db, reasons: Reasons, nowMs: number, ids: readonly number[]) {
  await reasons.horizons.load(ids);
  const rows = await db.sql<{ id: number; digest: string; size_bytes: number }>`/* gc_explain.sizes */
    select id, digest, size_bytes from manifest where ${db.dialect.inList("id", ids)}`;
  const found: Explanation[] = [];
  for (const row of rows) {
    const id = toNumber(row.id);
    found.push({
      kind: "manifest",
      name: row.digest,
      ...judge(reasons.horizons.ofManifest(id), nowMs),
      sizeBytes: toNumber(row.size_bytes),
      reasons: await reasons.ofManifest(id),
      isCut: reasons.horizons.isCut,
      content: undefined,
    });
  }
  return found;
}

async function explainBlob(db: Db, digest: Digest): Promise<Explanation> {
  const nowMs = await databaseNowMs(db);
  const [row] = await db.sql<{ id: number; size_bytes: number; state: string; lease_until_ms: number }>`
    /* gc_explain.blob */
    select id, size_bytes, state, lease_until_ms from blob where digest = ${digest}`;
  if (!row) {
    throw unknown(
      `there is no blob "${digest}"; a manifest is asked for with its repository, as NAMESPACE/REPOSITORY@DIGEST`,
    );
  }
  const reasons = new Reasons(db, nowMs);
  const blob = { id: toNumber(row.id), leaseMs: toNumber(row.lease_until_ms) };
  const links = await reasons.horizons.loadLinks([blob.id]);
  const isDeleting = row.state === "deleting";
  return {
    kind: "blob",
    name: digest,
    ...(isDeleting
      ? ({ state: "deleting", goesMs: undefined } as const)
      : judge(reasons.horizons.ofBlob(blob.leaseMs, links), nowMs)),
    sizeBytes: toNumber(row.size_bytes),
    reasons: isDeleting ? await reasons.ofDeletion(blob.id) : await reasons.ofBlob(blob.leaseMs, links),
    isCut: reasons.horizons.isCut,
    content: undefined,
  };
}

async function explainRepository(db: Db, { path, namespace, name }: ParsedRepositoryPath): Promise<Explanation> {
  const base = { kind: "repository", name: path, sizeBytes: undefined, isCut: false, content: undefined } as const;
  const [living] = await db.sql`/* gc_explain.living */
    select id from repository where path = ${path} and deleted_ms is null`;
  if (living) {
    const reason: Reason = {
      kind: "repository",
      name: path,
      untilMs: undefined,
      sentence: "it was not deleted; what it holds is collected one by one",
      because: [],
    };
    return { ...base, state: "kept", goesMs: undefined, reasons: [reason] };
  }
  return explainDeleted(db, base, namespace, name);
}

type Base = Pick<Explanation, "kind" | "name" | "sizeBytes" | "isCut" | "content">;

/** The one of that name that was deleted last, by itself or with its namespace, and can still be restored. */
async function explainDeleted(db: Db, base: Base, namespace: string, name: string): Promise<Explanation> {
  const nowMs = await databaseNowMs(db);
  const [row] = await db.sql<{ id: number; owner_id: number; alone: number; deleted_ms: number; window_s: number }>`
    /* gc_explain.deleted */
    select r.id, a.id as owner_id, case when r.restore_name is null then 0 else 1 end as alone, r.deleted_ms,
      a.tag_expiration_s as window_s
    from repository r join account a on a.id = r.namespace_id
    where r.deleted_ms is not null and a.id in (
        select id from account where username = ${namespace}
        union all select id from account where restore_name = ${namespace} and owner_id is null)
      and (r.restore_name = ${name}
        or (r.restore_name is null and r.restore_state is not null and a.restore_name is not null and r.name = ${name}))
    order by r.deleted_ms desc limit 1`;
  if (!row) throw unknown(`there is no repository "${base.name}", and none that could be restored`);
  const isAlone = toNumber(row.alone) === 1;
  const id = toNumber(isAlone ? row.id : row.owner_id);
  const times = await findPurgeTimes(db, isAlone ? "repositorygc" : "namespacegc", new Set([id]));
  const purgeMs = times.get(id) ?? Number.POSITIVE_INFINITY;
  const untilMs = Math.max(purgeMs, restorableUntilMs(toNumber(row.deleted_ms), toNumber(row.window_s)));
  const sentence = `it was deleted ${isAlone ? "" : "with its namespace "}and can be restored`;
  const reason: Reason = { kind: "undelete", name: base.name, untilMs, sentence, because: [] };
  return { ...base, ...judge(untilMs, nowMs), reasons: untilMs > nowMs ? [reason] : [] };
}

/**
 * Tags as they were at an instant: what a tag pointed at, and which tags there were. It is read from the lifetimes that the
 * time machine still keeps, past all caches, and changes nothing. Berth's own: Quay has nothing like it.
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { parseInstant } from "../../lib/instant.ts";
import type { Digest } from "../../oci/digest.ts";
import { quoteValue } from "../../oci/quote.ts";
import { formatReference, type Reference, type TagName } from "../../oci/reference.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import type { StoredManifest } from "../manifest/queries.ts";

/** The clocks of clients are not ours: so far ahead is now. */
const AHEAD_MS_MAX = 5 * 60_000;

/** The last millisecond of a second. */
const WHOLE_SECOND_MS = 999;

/**
 * Epoch ms of an instant in a request. Whole seconds hold all that happened in that second, for the API tells times in whole
 * seconds: the `start_ts` of a tag is a time when it was there. Throws `invalid_request` for what is none, or lies ahead.
 */
export function parseAsOf(text: string, nowMs: number): number {
  const instantMs = parseInstant(text);
  const asOfMs = instantMs === undefined || text.includes(".") ? instantMs : instantMs + WHOLE_SECOND_MS;
  if (asOfMs === undefined) {
    throw new RegistryError("invalid_request", {
      message: `invalid asof ${quoteValue(text)}: expected a time as 2026-01-31T12:00:00Z, or seconds since 1970`,
    });
  }
  if (asOfMs <= nowMs + AHEAD_MS_MAX) return Math.min(asOfMs, nowMs);
  throw new RegistryError("invalid_request", {
    message: `invalid asof ${quoteValue(text)}: it lies in the future, and nobody knows what the tag will be then`,
  });
}

interface ManifestRow {
  id: number;
  digest: string;
  media_type: string;
  content: Uint8Array;
  lost: number | null;
}

/**
 * The manifest that a tag pointed at then, or that was there under its digest, as long as it can be restored. Throws
 * `manifest_unknown`, which tells whether the history goes back that far.
 */
export async function getManifestAsOf(
  { db }: Pick<App, "db">,
  repository: RepositoryFacts,
  reference: Reference,
  asOfMs: number,
): Promise<StoredManifest> {
  const then =
    reference.kind === "tag"
      ? db.sql`m.id = (
          select manifest_id from tag
          where repository_id = ${repository.id} and name = ${reference.tag} and ${wasAlive(db, asOfMs)}
          order by start_ms desc limit 1)`
      : db.sql`m.repository_id = ${repository.id} and m.digest = ${reference.digest}
          and m.created_ms <= ${asOfMs} and (m.deleted_ms is null or m.deleted_ms > ${asOfMs})`;
  // What a client has deleted blob by blob since is only whole again once it is restored.
  const [row] = await db.sql<ManifestRow>`/* manifest.as_of */
    select m.id, m.digest, m.media_type, m.content, (
      select n.blob_id from manifest_blob n
      left join repository_blob l on l.repository_id = n.repository_id and l.blob_id = n.blob_id and l.deleted_ms is null
      where n.manifest_id = m.id and l.blob_id is null limit 1) as lost
    from manifest m where ${then}`;
  if (!row) throw await unknownThen(db, repository, reference, asOfMs);
  if (row.lost !== null) {
    throw unknown(
      reference,
      asOfMs,
      `blobs of what ${quoted(reference)} was at ${iso(asOfMs)} have been deleted since`,
    );
  }
  return {
    id: toNumber(row.id),
    digest: row.digest as Digest,
    mediaType: row.media_type,
    content: row.content,
    expiresMs: undefined,
  };
}

/** True of a row of `tag` that was there, for everybody to see, at that time. */
export function wasAlive(db: Db, asOfMs: number) {
  // "<> true" keeps SQLite from walking all of a repository in the index of the newest.
  return db.sql`hidden <> true and start_ms <= ${asOfMs} and (end_ms is null or end_ms > ${asOfMs})
    and (expires_ms is null or expires_ms > ${asOfMs})`;
}

async function unknownThen(
  db: Db,
  repository: RepositoryFacts,
  reference: Reference,
  asOfMs: number,
): Promise<RegistryError> {
  if (reference.kind === "digest") {
    return unknown(reference, asOfMs, `there was no manifest ${quoted(reference)} here at ${iso(asOfMs)}`);
  }
  const beganMs = await findBeginning(db, repository.id, reference.tag);
  if (beganMs === undefined) return unknown(reference, asOfMs, `nothing is known of a tag ${quoted(reference)} here`);
  const was =
    beganMs > asOfMs
      ? `what is known of tag ${quoted(reference)} begins at ${iso(beganMs)}, after ${iso(asOfMs)}`
      : `tag ${quoted(reference)} did not exist at ${iso(asOfMs)}, or what it was then is no longer kept`;
  return unknown(reference, asOfMs, was);
}

async function findBeginning(db: Db, repositoryId: number, tag: TagName): Promise<number | undefined> {
  const [row] = await db.sql<{ start_ms: number }>`/* tag.beginning */
    select start_ms from tag where repository_id = ${repositoryId} and name = ${tag} and hidden <> true
    order by start_ms limit 1`;
  return row && toNumber(row.start_ms);
}

function unknown(reference: Reference, asOfMs: number, message: string): RegistryError {
  const detail = { reference: formatReference(reference), asof: iso(asOfMs) };
  return new RegistryError("manifest_unknown", { message, detail });
}

function quoted(reference: Reference): string {
  return `"${formatReference(reference)}"`;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

/**
 * One page of the names that were there then, in byte order. Costs the lifetimes between the page's first and last name,
 * later ones too: the history of a repository and never the registry.
 */
export async function listTagsAsOf(
  { db }: Pick<App, "db">,
  repository: RepositoryFacts,
  page: { limit: number; last: string | undefined; asOfMs: number },
): Promise<{ names: string[]; more: boolean }> {
  if (page.limit === 0) return { names: [], more: false };
  // Of one name at most one lifetime holds an instant.
  const rows = await db.sql<{ name: string }>`/* tag.list_as_of */
    select name from tag
    where repository_id = ${repository.id} and name > ${page.last ?? ""} and ${wasAlive(db, page.asOfMs)}
    order by name limit ${page.limit + 1}`;
  return { names: rows.slice(0, page.limit).map((row) => row.name), more: rows.length > page.limit };
}

/**
 * Referrers of a manifest: those that named it as subject, and those that old clients listed under its fallback tag. The
 * subject itself need not exist. Spec: distribution-spec "Listing Referrers" and "Referrers Tag Schema".
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { type Digest, findDigest } from "../../oci/digest.ts";
import { isIndexMediaType, isMediaType } from "../../oci/media-types.ts";
import { fallbackTag } from "../../oci/reference.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { findManifestIds } from "../manifest/queries.ts";

export interface ReferrerDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Record<string, string>;
}

export interface ReferrersPage {
  readonly referrers: ReferrerDescriptor[];
  /** Digest to go on after; undefined on the last page. */
  readonly next: string | undefined;
}

export interface ListReferrers {
  subject: Digest;
  /** Only referrers of this artifact type. */
  artifactType: string | undefined;
  last: string | undefined;
  limit: number;
}

/** An answer is an index like any other and stays under the size that clients take: 4 MiB, with room for its frame. */
const ANSWER_BYTES_MAX = 4 * 1024 * 1024 - 64 * 1024;

/** One page, in order of digest. Old clients' fallback lists come with the first page. */
export async function listReferrers(
  app: Pick<App, "db" | "lookup">,
  repository: RepositoryFacts,
  input: ListReferrers,
): Promise<ReferrersPage> {
  // No manifest has a type of another form; PostgreSQL takes a NUL in a parameter for an error.
  const isPossible = input.artifactType === undefined || isMediaType(input.artifactType);
  if (input.limit === 0 || !isPossible) return { referrers: [], next: undefined };
  const stored = await findReferrers(app.db, repository.id, input);
  const { page, next } = cutPage(stored, input.limit);
  if (input.last !== undefined) return { referrers: page, next };
  const listed = await findFallbackReferrers(app, repository, input);
  const known = new Set(stored.map((referrer) => referrer.digest));
  const indexed = await findIndexed(app.db, repository.id, input.subject, listed);
  return {
    referrers: [...page, ...listed.filter(({ digest }) => !known.has(digest) && !indexed.has(digest))],
    next,
  };
}

interface ReferrerRow {
  digest: string;
  media_type: string;
  size_bytes: number;
  artifact_type: string | null;
  annotations: string;
}

async function findReferrers(db: Db, repositoryId: number, input: ListReferrers): Promise<ReferrerDescriptor[]> {
  const ofType = input.artifactType === undefined ? db.sql`` : db.sql`and artifact_type = ${input.artifactType}`;
  const rows = await db.sql<ReferrerRow>`/* referrer.list */
    select digest, media_type, size_bytes, artifact_type, annotations from manifest
    where repository_id = ${repositoryId} and subject_digest = ${input.subject} and digest > ${input.last ?? ""}
      and deleted_ms is null ${ofType}
    order by digest limit ${input.limit + 1}`;
  return rows.map(decodeReferrer);
}

function decodeReferrer(row: ReferrerRow): ReferrerDescriptor {
  const annotations: Record<string, string> = JSON.parse(row.annotations);
  return {
    mediaType: row.media_type,
    digest: row.digest,
    size: toNumber(row.size_bytes),
    ...(row.artifact_type === null ? {} : { artifactType: row.artifact_type }),
    ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
  };
}

function cutPage(found: ReferrerDescriptor[], limit: number): { page: ReferrerDescriptor[]; next: string | undefined } {
  const page: ReferrerDescriptor[] = [];
  let sizeBytes = 0;
  for (const referrer of found.slice(0, limit)) {
    sizeBytes += JSON.stringify(referrer).length * 2;
    if (page.length > 0 && sizeBytes > ANSWER_BYTES_MAX) break;
    page.push(referrer);
  }
  return { page, next: page.length < found.length ? page.at(-1)?.digest : undefined };
}

/** What the index under the fallback tag lists and the repository still has. */
async function findFallbackReferrers(
  app: Pick<App, "db" | "lookup">,
  repository: RepositoryFacts,
  input: ListReferrers,
): Promise<ReferrerDescriptor[]> {
  const index = await app.lookup.manifest(repository.id, { kind: "tag", tag: fallbackTag(input.subject) });
  if (!index || !isIndexMediaType(index.mediaType)) return [];
  const document: { manifests?: unknown } = JSON.parse(new TextDecoder().decode(index.content));
  const listed = (Array.isArray(document.manifests) ? document.manifests : []) as ReferrerDescriptor[];
  const wanted = listed.filter(
    (referrer) => input.artifactType === undefined || referrer.artifactType === input.artifactType,
  );
  const digests = wanted.map(({ digest }) => findDigest(digest)).filter((digest) => digest !== undefined);
  const present = await findManifestIds(app.db, repository.id, digests);
  // Clients that append to the list may name one twice; the first counts.
  const distinct = new Map<string, ReferrerDescriptor>();
  for (const referrer of wanted) {
    if (present.has(referrer.digest) && !distinct.has(referrer.digest)) distinct.set(referrer.digest, referrer);
  }
  return [...distinct.values()];
}

/** Those of `listed` that name the subject themselves: they have their place in the pages by digest. */
async function findIndexed(
  db: Db,
  repositoryId: number,
  subject: Digest,
  listed: readonly ReferrerDescriptor[],
): Promise<Set<string>> {
  if (listed.length === 0) return new Set();
  const digests = listed.map(({ digest }) => digest);
  const rows = await db.sql<{ digest: string }>`/* referrer.indexed */
    select digest from manifest
    where repository_id = ${repositoryId} and subject_digest = ${subject} and deleted_ms is null
      and ${db.dialect.inList("digest", digests)}`;
  return new Set(rows.map((row) => row.digest));
}

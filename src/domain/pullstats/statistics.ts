/** How often tags and manifests were pulled, as the API shows it. Source: quay-api reference, section 20. */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import type { Digest } from "../../oci/digest.ts";
import type { TagName } from "../../oci/reference.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { findManifestByReference } from "../manifest/queries.ts";

export interface PullFigures {
  readonly count: number;
  /** Epoch ms; undefined when it was never pulled. */
  readonly lastMs: number | undefined;
}

/** A living tag's pulls under this name, whatever it pointed at, and its present manifest's. Throws `not_found`. */
export async function getTagPulls(
  db: Db,
  repository: RepositoryFacts,
  tag: TagName,
  nowMs: number,
): Promise<{ tag: PullFigures; digest: Digest; manifest: PullFigures }> {
  const manifest = await findManifestByReference(db, repository.id, { kind: "tag", tag }, nowMs);
  if (!manifest) throw new RegistryError("not_found");
  const rows = await db.sql<PullRow>`/* pullstats.of_tag */
    select pull_count, last_pull_ms from tag_pull where repository_id = ${repository.id} and tag_name = ${tag}`;
  const pulls = await findManifestPulls(db, repository.id, manifest.digest);
  return { tag: decodePulls(rows[0]), digest: manifest.digest, manifest: pulls };
}

/** Pulls of a manifest, by digest and by any tag. Throws `not_found`. */
export async function getManifestPulls(
  db: Db,
  repository: RepositoryFacts,
  digest: Digest,
  nowMs: number,
): Promise<PullFigures> {
  const manifest = await findManifestByReference(db, repository.id, { kind: "digest", digest }, nowMs);
  if (!manifest) throw new RegistryError("not_found");
  return findManifestPulls(db, repository.id, digest);
}

async function findManifestPulls(db: Db, repositoryId: number, digest: Digest): Promise<PullFigures> {
  const [row] = await db.sql<PullRow>`/* pullstats.of_manifest */
    select pull_count, last_pull_ms from manifest_pull
    where repository_id = ${repositoryId} and manifest_digest = ${digest}`;
  return decodePulls(row);
}

interface PullRow {
  pull_count: unknown;
  last_pull_ms: unknown;
}

function decodePulls(row: PullRow | undefined): PullFigures {
  // A row may be there because it was only asked for.
  const count = row ? toNumber(row.pull_count) : 0;
  return { count, lastMs: row && count > 0 ? toNumber(row.last_pull_ms) : undefined };
}

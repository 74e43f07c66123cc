/** One repository as its page shows it: what it is, what the caller may do with it, its first tags and how it is used. */

import type { App } from "../../app.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { decideRole } from "../access/access.ts";
import type { Caller } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { listTagSummaries, type TagSummary } from "../tag/summary.ts";
import { type DayCount, findStarredIds, listDayCounts } from "./extras.ts";

/** Source of both: quay-api reference, section 7. */
export const VIEW_TAGS_MAX = 500;
export const STATS_DAYS = 92;

export interface RepositoryView {
  readonly description: string;
  readonly isOrganization: boolean;
  readonly isStarred: boolean;
  readonly trustEnabled: boolean;
  /** Window in which a deleted tag can be restored, seconds. */
  readonly tagExpirationSeconds: number;
  readonly canWrite: boolean;
  readonly canAdmin: boolean;
  readonly tags: readonly TagSummary[] | undefined;
  readonly stats: readonly DayCount[] | undefined;
}

/** The caller has been found to be allowed to read it. Throws `not_found` when it was deleted meanwhile. */
export async function viewRepository(
  app: Pick<App, "config" | "db" | "lookup" | "clock">,
  caller: Caller,
  repository: RepositoryFacts,
  parts: { tags: boolean; stats: boolean },
): Promise<RepositoryView> {
  const { db, config } = app;
  const nowMs = app.clock.nowMs();
  const [row] = await db.sql<{
    description: string;
    trust_enabled: unknown;
    kind: "user" | "organization";
    tag_expiration_s: number;
  }>`/* repository.view */
    select r.description, r.trust_enabled, a.kind, a.tag_expiration_s
    from repository r join account a on a.id = r.namespace_id where r.id = ${repository.id} and r.deleted_ms is null`;
  if (!row) throw new RegistryError("not_found");
  const { principal } = caller;
  const starred = principal ? await findStarredIds(db, principal.accountId, [repository.id]) : new Set<number>();
  const role = await app.lookup.role(principal, repository);
  const may = (needed: "write" | "admin") => decideRole(config, caller, repository, role, needed).allowed;
  return {
    description: row.description,
    isOrganization: row.kind === "organization",
    isStarred: starred.has(repository.id),
    trustEnabled: config.FEATURE_SIGNING && toBoolean(row.trust_enabled),
    tagExpirationSeconds: toNumber(row.tag_expiration_s),
    canWrite: may("write"),
    canAdmin: may("admin"),
    tags: parts.tags ? await listTagSummaries(db, repository.id, { limit: VIEW_TAGS_MAX, nowMs }) : undefined,
    stats: parts.stats ? await listDayCounts(db, repository.id, { days: STATS_DAYS, nowMs }) : undefined,
  };
}

/**
 * What opens the status picture of a private repository without log-in: kept nowhere, told to everybody who may read it,
 * the same until SECRET_KEY changes. "" for a public one, which needs none.
 */
export function statusToken(app: Pick<App, "secretKey">, repository: RepositoryFacts): string {
  if (repository.visibility === "public") return "";
  return new Bun.CryptoHasher("sha256", app.secretKey).update(`repository status ${repository.id}`).digest("hex");
}

/**
 * Removing a tag for good: its lifetimes end before the time machine's window begins and leave the history, so that nothing
 * can be restored and the next collection takes what only they held. Source: quay-behaviour reference, section 6.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import type { Digest } from "../../oci/digest.ts";
import type { TagName } from "../../oci/reference.ts";
import type { Caller } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import type { RequestOrigin } from "../audit/audit.ts";
import { noteEndedTag } from "../gc/due.ts";
import { loadImmutabilityRules, tagImmutable } from "../immutability/rules.ts";
import { referenceKey } from "../lookup/lookup.ts";
import { endChildLeases, endLease, findManifestDigest, findManifestRow, lockRepository } from "../manifest/queries.ts";
import { findCurrentTag } from "./queries.ts";
import { isAlive, logTagChange } from "./tag.ts";

export interface ExpireTag {
  repository: RepositoryFacts;
  name: TagName;
  /** Which manifest's lifetimes of the tag; needed unless `isAlive`. */
  digest?: Digest | undefined;
  /** The living tag goes; otherwise the dead lifetimes of the tag on the manifest. */
  isAlive: boolean;
  /** The manifests of an index lose the protection that their push gave them. */
  includeSubmanifests: boolean;
  request: RequestOrigin;
}

/** Throws `not_found` when there is nothing to remove, `tag_immutable`, and `invalid_request` without a digest it needs. */
export async function expireTag(
  app: Pick<App, "config" | "db" | "clock">,
  caller: Caller,
  input: ExpireTag,
): Promise<void> {
  const { repository, name, digest, request } = input;
  if (!input.isAlive && digest === undefined) {
    throw new RegistryError("invalid_request", { message: "manifest_digest required when is_alive set to false" });
  }
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    await lockRepository(tx, repository);
    const given = digest === undefined ? undefined : await findManifestRow(tx, repository.id, digest);
    if (digest !== undefined && !given) throw new RegistryError("not_found");
    const beforeMs = nowMs - (await findWindowMs(tx, repository.namespaceId));
    const manifestId = input.isAlive
      ? await expireLiving(app, tx, input, given?.id, { nowMs, beforeMs })
      : await expireDead(tx, input, given?.id ?? 0, { nowMs, beforeMs });
    await noteEndedTag(tx, repository.id, beforeMs);
    await endLease(tx, manifestId);
    if (input.includeSubmanifests) await endChildLeases(tx, manifestId);
    const metadata = { manifest_digest: digest ?? (await findManifestDigest(tx, manifestId)) ?? null };
    await logTagChange(tx, { kind: "permanently_delete_tag", caller, repository, name, request, nowMs, metadata });
    tx.changed(referenceKey(repository.id, name));
  });
}

async function expireLiving(
  app: Pick<App, "config">,
  tx: Tx,
  { repository, name }: ExpireTag,
  manifestId: number | undefined,
  times: { nowMs: number; beforeMs: number },
): Promise<number> {
  const current = await findCurrentTag(tx, repository.id, name);
  const isThere = current && isAlive(current, times.nowMs) && (manifestId ?? current.manifestId) === current.manifestId;
  if (!isThere) throw new RegistryError("not_found");
  const rules = await loadImmutabilityRules(app.config, tx, repository);
  if (rules.isImmutable(name, current)) throw tagImmutable(name);
  await tx.sql`/* tag.expire_living */
    update tag set end_ms = ${times.beforeMs}, hidden = true where id = ${current.id}`;
  return current.manifestId;
}

/** Expired lifetimes that nobody has ended yet are dead too. */
async function expireDead(
  tx: Tx,
  { repository, name }: ExpireTag,
  manifestId: number,
  times: { nowMs: number; beforeMs: number },
): Promise<number> {
  const rows = await tx.sql`/* tag.expire_dead */
    update tag set end_ms = ${times.beforeMs}, hidden = true
    where repository_id = ${repository.id} and name = ${name} and manifest_id = ${manifestId} and hidden = false
      and (end_ms is not null or expires_ms <= ${times.nowMs})
    returning id`;
  if (rows.length === 0) throw new RegistryError("not_found");
  return manifestId;
}

/** How long the namespace keeps deleted tags restorable. */
async function findWindowMs(tx: Tx, namespaceId: number): Promise<number> {
  const [row] = await tx.sql<{ tag_expiration_s: number }>`/* tag.window */
    select tag_expiration_s from account where id = ${namespaceId}`;
  return toNumber(row?.tag_expiration_s ?? 0) * 1000;
}

/** Rules of tags that pushes and the API share: pointing one at a manifest, ending one, listing names. */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import type { TagName } from "../../oci/reference.ts";
import { type Caller, principalName } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { logAction, logRepositoryAction, type RequestOrigin } from "../audit/audit.ts";
import { type ImmutabilityRules, loadImmutabilityRules, tagImmutable, UNPROTECTED } from "../immutability/rules.ts";
import { referenceKey } from "../lookup/lookup.ts";
import { lockRepository } from "../manifest/queries.ts";
import { type CurrentTag, endTag, findCurrentTag, insertTag, listTagNames } from "./queries.ts";

export interface SetTag {
  repositoryId: number;
  /** Of the repository, loaded in this transaction. */
  rules: ImmutabilityRules;
  name: TagName;
  manifestId: number;
  /** Planned end of the new lifetime, from `quay.expires-after`; an immutable tag gets none. */
  expiresMs?: number | undefined;
  /** The tag goes back to what it was. */
  reversion?: boolean;
  nowMs: number;
}

/**
 * Points a tag at a manifest and ends its previous lifetime; pointing it where it points already changes nothing, but
 * begins anew a lifetime that a label limits. Gives what it pointed at before, if it was alive. Throws `tag_immutable`.
 */
export async function setTag(
  tx: Tx,
  input: SetTag,
): Promise<{ previous: CurrentTag | undefined; current: CurrentTag }> {
  const { name, rules, nowMs } = input;
  const found = await findCurrentTag(tx, input.repositoryId, name);
  const previous = found && isAlive(found, nowMs) ? found : undefined;
  const isSame = previous?.manifestId === input.manifestId;
  const expiresMs = rules.mayExpire(name, (isSame && previous) || UNPROTECTED) ? input.expiresMs : undefined;
  if (previous && isSame && expiresMs === undefined) return { previous, current: previous };
  if (previous && !isSame && rules.isImmutable(name, previous)) throw tagImmutable(name);
  if (found) await endTag(tx, found, nowMs);
  const current = await insertTag(tx, {
    repositoryId: input.repositoryId,
    name,
    manifestId: input.manifestId,
    // Two pushes of one tag inside a millisecond must not make lifetimes of no order.
    startMs: Math.max(nowMs, found ? found.startMs + 1 : 0),
    expiresMs,
    reversion: input.reversion ?? false,
    immutable: isSame ? previous.immutable : false,
    immutabilityLifted: isSame ? previous.immutabilityLifted : false,
  });
  tx.changed(referenceKey(input.repositoryId, name));
  return { previous, current };
}

/**
 * Deletes a tag; it can be restored until the time machine's window is over. `surface` decides how the log entry looks.
 * Throws `manifest_unknown`, `tag_immutable`.
 */
export async function deleteTag(
  app: Pick<App, "db" | "clock" | "config">,
  caller: Caller,
  repository: RepositoryFacts,
  name: TagName,
  request: RequestOrigin,
  surface: "registry" | "api" = "registry",
): Promise<void> {
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    await lockRepository(tx, repository);
    const current = await findCurrentTag(tx, repository.id, name);
    if (!current || !isAlive(current, nowMs)) throw new RegistryError("manifest_unknown", { detail: { tag: name } });
    const rules = await loadImmutabilityRules(app.config, tx, repository);
    if (rules.isImmutable(name, current)) throw tagImmutable(name);
    await endTag(tx, current, nowMs);
    const entry = { kind: "delete_tag", caller, repository, request, nowMs } as const;
    if (surface === "api") await logTagChange(tx, { ...entry, name, metadata: {} });
    else await logRepositoryAction(tx, { ...entry, metadata: { tag: name } });
    tx.changed(referenceKey(repository.id, name));
  });
}

export interface TagChange {
  kind:
    | "create_tag"
    | "move_tag"
    | "delete_tag"
    | "revert_tag"
    | "permanently_delete_tag"
    | "change_tag_expiration"
    | "change_tag_immutability";
  caller: Caller;
  repository: RepositoryFacts;
  name: TagName;
  request: RequestOrigin;
  nowMs: number;
  /** Beside who, where and which tag. */
  metadata: Record<string, unknown>;
}

/** Writes the entry of a change made through the API. Source: quay-behaviour reference, section 13. */
export async function logTagChange(tx: Tx, change: TagChange): Promise<void> {
  const { caller, repository } = change;
  await logAction(tx, {
    kind: change.kind,
    caller,
    namespaceId: repository.namespaceId,
    repositoryId: repository.id,
    request: change.request,
    nowMs: change.nowMs,
    metadata: {
      username: principalName(caller),
      repo: repository.name,
      namespace: repository.namespace,
      tag: change.name,
      ...change.metadata,
    },
  });
}

/** One page of tag names in byte order. `more` tells that another page follows. */
export async function listTags(
  app: Pick<App, "db" | "clock">,
  repository: RepositoryFacts,
  page: { limit: number; last: string | undefined },
): Promise<{ names: string[]; more: boolean }> {
  if (page.limit === 0) return { names: [], more: false };
  const names = await listTagNames(app.db, repository.id, {
    last: page.last ?? "",
    limit: page.limit + 1,
    nowMs: app.clock.nowMs(),
  });
  return { names: names.slice(0, page.limit), more: names.length > page.limit };
}

export function isAlive(tag: CurrentTag, nowMs: number): boolean {
  return tag.expiresMs === undefined || tag.expiresMs > nowMs;
}

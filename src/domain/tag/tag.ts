/** Rules of tags: pointing one at a manifest, ending one, listing them. Manifests themselves are domain/manifest. */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import type { TagName } from "../../oci/reference.ts";
import type { Caller } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { logRepositoryAction } from "../audit/audit.ts";
import { referenceKey } from "../lookup/lookup.ts";
import { type CurrentTag, endTag, findCurrentTag, insertTag, listTagNames } from "./queries.ts";

export interface SetTag {
  repositoryId: number;
  name: TagName;
  manifestId: number;
  /** Planned end of the new lifetime, from `quay.expires-after`. */
  expiresMs?: number | undefined;
  nowMs: number;
}

/**
 * Points a tag at a manifest and ends its previous lifetime; pointing it where it points already changes nothing. Throws
 * `tag_immutable`.
 */
export async function setTag(tx: Tx, input: SetTag): Promise<void> {
  const current = await findCurrentTag(tx, input.repositoryId, input.name);
  const alive = current && isAlive(current, input.nowMs);
  if (alive && current.manifestId === input.manifestId && input.expiresMs === undefined) return;
  if (alive && current.immutable) throw immutable(input.name);
  if (current) await endTag(tx, current, input.nowMs);
  await insertTag(tx, {
    repositoryId: input.repositoryId,
    name: input.name,
    manifestId: input.manifestId,
    // Two pushes of one tag inside a millisecond must not make lifetimes of no order.
    startMs: Math.max(input.nowMs, current ? current.startMs + 1 : 0),
    expiresMs: input.expiresMs,
  });
  tx.changed(referenceKey(input.repositoryId, input.name));
}

/** Deletes a tag; it can be restored until the time machine's window is over. Throws `manifest_unknown`, `tag_immutable`. */
export async function deleteTag(
  app: Pick<App, "db" | "clock" | "config">,
  caller: Caller,
  repository: RepositoryFacts,
  name: TagName,
  request: { ip: string | undefined; userAgent: string | undefined },
): Promise<void> {
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    const current = await findCurrentTag(tx, repository.id, name);
    if (!current || !isAlive(current, nowMs)) throw new RegistryError("manifest_unknown", { detail: { tag: name } });
    if (current.immutable) throw immutable(name);
    await endTag(tx, current, nowMs);
    await logRepositoryAction(tx, { kind: "delete_tag", caller, repository, request, nowMs, metadata: { tag: name } });
    tx.changed(referenceKey(repository.id, name));
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

function immutable(name: TagName): RegistryError {
  return new RegistryError("tag_immutable", {
    message: `tag "${name}" is immutable: it cannot be moved or deleted`,
    detail: { tag: name },
  });
}

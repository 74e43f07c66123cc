/** Deleting a manifest by digest: gone from /v2 at once with every tag on it, restorable until it is collected. */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import type { Digest } from "../../oci/digest.ts";
import type { Caller } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { logRepositoryAction, type RequestOrigin } from "../audit/audit.ts";
import { loadImmutabilityRules, tagImmutable } from "../immutability/rules.ts";
import { repositoryKey } from "../lookup/lookup.ts";
import { endTag, listTagsOfManifest, listTagsOfParents } from "../tag/queries.ts";
import { isAlive } from "../tag/tag.ts";
import { findManifestByReference, lockRepository, markManifestDeleted } from "./queries.ts";

/**
 * Throws `manifest_unknown`, or `tag_immutable` when an immutable tag is on it or on an index that holds it. One delete_tag
 * entry for each living tag.
 */
export async function deleteManifest(
  app: Pick<App, "config" | "db" | "clock">,
  caller: Caller,
  repository: RepositoryFacts,
  digest: Digest,
  request: RequestOrigin,
): Promise<void> {
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    await lockRepository(tx, repository);
    const manifest = await findManifestByReference(tx, repository.id, { kind: "digest", digest }, nowMs);
    const isDeleted = manifest && (await markManifestDeleted(tx, manifest.id, nowMs));
    if (!isDeleted) throw new RegistryError("manifest_unknown", { detail: { digest } });
    const rules = await loadImmutabilityRules(app.config, tx, repository);
    const tags = await listTagsOfManifest(tx, manifest.id);
    const held = [...tags, ...(await listTagsOfParents(tx, manifest.id))].find(
      ({ name, tag }) => isAlive(tag, nowMs) && rules.isImmutable(name, tag),
    );
    if (held) throw tagImmutable(held.name, "taken away from the manifest it stands for");
    for (const { name, tag } of tags) {
      await endTag(tx, tag, nowMs);
      if (!isAlive(tag, nowMs)) continue;
      await logRepositoryAction(tx, {
        kind: "delete_tag",
        caller,
        repository,
        request,
        nowMs,
        metadata: { tag: name, digest },
      });
    }
    tx.changed(repositoryKey(repository.id));
  });
}

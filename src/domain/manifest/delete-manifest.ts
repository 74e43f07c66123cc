/** Deleting a manifest by digest: gone from /v2 at once with every tag on it, restorable until it is collected. */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import type { Digest } from "../../oci/digest.ts";
import type { Caller } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { logRepositoryAction, type RequestOrigin } from "../audit/audit.ts";
import { repositoryKey } from "../lookup/lookup.ts";
import { endTag, listTagsOfManifest } from "../tag/queries.ts";
import { findManifestByReference, markManifestDeleted } from "./queries.ts";

/** Throws `manifest_unknown`, or `tag_immutable` when an immutable tag is on it. One delete_tag entry for each tag. */
export async function deleteManifest(
  app: Pick<App, "db" | "clock">,
  caller: Caller,
  repository: RepositoryFacts,
  digest: Digest,
  request: RequestOrigin,
): Promise<void> {
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    const manifest = await findManifestByReference(tx, repository.id, { kind: "digest", digest }, nowMs);
    const isDeleted = manifest && (await markManifestDeleted(tx, manifest.id, nowMs));
    if (!isDeleted) throw new RegistryError("manifest_unknown", { detail: { digest } });
    for (const { name, tag } of await listTagsOfManifest(tx, manifest.id)) {
      if (tag.immutable) {
        throw new RegistryError("tag_immutable", {
          message: `tag "${name}" on this manifest is immutable: it cannot be deleted`,
          detail: { tag: name, digest },
        });
      }
      await endTag(tx, tag, nowMs);
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

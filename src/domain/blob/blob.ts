/** Blobs in a repository: finding one to hand out, mounting one from another repository, deleting one. */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import type { Digest } from "../../oci/digest.ts";
import { type ParsedRepositoryPath, parseRepositoryPath } from "../../oci/names.ts";
import type { ClientUrlRequest, ObjectSource } from "../../storage/driver.ts";
import { decide } from "../access/access.ts";
import type { Caller } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { repositoryKey } from "../lookup/lookup.ts";
import {
  type BlobFacts,
  findBlobFacts,
  findManifestNamingBlob,
  holdBlob,
  linkBlob,
  listRepositoriesWithBlob,
  unlinkBlob,
} from "./queries.ts";

type BlobApp = Pick<App, "config" | "db" | "lookup" | "clock" | "storage" | "log">;

/** A blob of the repository. Throws `blob_unknown`. */
export async function getBlob(app: BlobApp, repository: RepositoryFacts, digest: Digest): Promise<BlobFacts> {
  const blob = await app.lookup.blob(repository.id, digest);
  if (blob) return blob;
  throw new RegistryError("blob_unknown", { detail: { digest } });
}

/** How to hand out its bytes. Throws `unavailable` when no store has them: the row says they were acknowledged. */
export async function getBlobSource(app: BlobApp, blob: BlobFacts): Promise<ObjectSource> {
  const source = await app.storage.source(blob);
  if (source && source.sizeBytes === blob.sizeBytes) return source;
  app.log.error("a stored blob is missing or has another size", {
    digest: blob.digest,
    locations: blob.locations,
    sizeBytes: blob.sizeBytes,
    found: source?.sizeBytes ?? null,
  });
  throw new RegistryError("unavailable", {
    message: `the bytes of blob "${blob.digest}" cannot be read from storage now`,
    detail: { digest: blob.digest },
  });
}

/** A URL at the store with which the client fetches the blob by itself, undefined when it has to go through us. */
export async function getBlobUrl(
  app: Pick<App, "config" | "storage">,
  blob: BlobFacts,
  request: ClientUrlRequest,
): Promise<string | undefined> {
  return app.config.FEATURE_PROXY_STORAGE ? undefined : app.storage.clientUrl(blob, request);
}

/** Repositories asked for a right on a mount without `from`, at most. */
const MOUNT_CANDIDATES_MAX = 20;

/**
 * Links a blob the caller may read elsewhere into `target`. False when there is none such: whether the blob or the
 * repository does not exist, or may not be read, is not told. When the account may read it and only the token does not say
 * so, throws `unauthorized` with the scope to ask for. Spec: distribution-spec "Mounting a blob".
 */
export async function mountBlob(
  app: BlobApp,
  caller: Caller,
  target: RepositoryFacts,
  digest: Digest,
  from: string | undefined,
): Promise<boolean> {
  const source =
    from === undefined ? await findReadable(app, caller, target, digest) : await readable(app, caller, from);
  if (!source) return false;
  const nowMs = app.clock.nowMs();
  return app.db.tx(async (tx) => {
    const blob = await findBlobFacts(tx, source.id, digest);
    if (!blob || !(await holdBlob(tx, blob.id))) return false;
    await linkBlob(app.config, tx, {
      repositoryId: target.id,
      blobId: blob.id,
      digest,
      leaseUntilMs: nowMs + app.config.PUSH_TEMP_TAG_EXPIRATION_SEC * 1000,
      nowMs,
    });
    return true;
  });
}

/** Takes a blob out of the repository at once. Throws `blob_unknown`, or `blob_in_use` while a manifest there names it. */
export async function deleteBlob(app: BlobApp, repository: RepositoryFacts, digest: Digest): Promise<void> {
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    const blob = await findBlobFacts(tx, repository.id, digest);
    if (!blob) throw new RegistryError("blob_unknown", { detail: { digest } });
    const manifest = await findManifestNamingBlob(tx, repository.id, blob.id);
    if (manifest !== undefined) {
      throw new RegistryError("blob_in_use", {
        message: `blob "${digest}" is used by manifest "${manifest}": delete that first`,
        detail: { digest, manifest },
      });
    }
    await unlinkBlob(tx, repository.id, blob.id, nowMs);
    tx.changed(repositoryKey(repository.id));
  });
}

async function findReadable(
  app: BlobApp,
  caller: Caller,
  target: RepositoryFacts,
  digest: Digest,
): Promise<RepositoryFacts | undefined> {
  const paths = await listRepositoriesWithBlob(app.db, digest, target.namespaceId, MOUNT_CANDIDATES_MAX);
  for (const path of paths) {
    const found = await readable(app, caller, path);
    if (found) return found;
  }
  return undefined;
}

async function readable(app: BlobApp, caller: Caller, path: string): Promise<RepositoryFacts | undefined> {
  const parsed = findPath(app, path);
  const repository = parsed && (await app.lookup.repository(parsed.path));
  if (!repository) return undefined;
  const role = await app.lookup.role(caller.principal, repository);
  const decision = decide(app.config, caller, repository, role, "pull");
  if (decision.rule === "token-scope" && decision.mayKnow) {
    const scope = `repository:${repository.path}:pull`;
    throw new RegistryError("unauthorized", {
      message: "the token does not cover the source of the mount",
      detail: { scope, decision: "token-scope" },
    });
  }
  return decision.allowed ? repository : undefined;
}

/** A name that cannot be one is just not there: a failed mount is an upload, never an error. */
function findPath(app: BlobApp, path: string): ParsedRepositoryPath | undefined {
  try {
    return parseRepositoryPath(path, pathRules(app.config));
  } catch {
    return undefined;
  }
}

/** How this registry reads repository names. */
export function pathRules(config: App["config"]): Parameters<typeof parseRepositoryPath>[1] {
  const rules = { extended: config.FEATURE_EXTENDED_REPOSITORY_NAMES };
  return config.FEATURE_LIBRARY_SUPPORT ? { ...rules, libraryNamespace: config.LIBRARY_NAMESPACE } : rules;
}

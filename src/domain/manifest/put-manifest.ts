/**
 * Pushing a manifest: checked against what the repository holds, then its row, what it names, its tags and the log entry
 * in one transaction, which the namespace's quota may refuse. Spec: distribution-spec "Pushing Manifests"; rules: quay-behaviour reference, section 5.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import { checkArtifactTypes } from "../../oci/artifact-policy.ts";
import { type Digest, digestAlgorithm, digestOf } from "../../oci/digest.ts";
import { type ParsedManifest, parseManifest } from "../../oci/manifest.ts";
import { isExternalLayerMediaType } from "../../oci/media-types.ts";
import type { Reference, TagName } from "../../oci/reference.ts";
import type { Caller } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { logRepositoryAction, type RequestOrigin } from "../audit/audit.ts";
import { loadImmutabilityRules } from "../immutability/rules.ts";
import { findExpiryLabel } from "../label/expiry-label.ts";
import { readImageLabels } from "../label/image-labels.ts";
import { insertLabel } from "../label/queries.ts";
import { labelMediaType } from "../label/rules.ts";
import { settleWithinQuota, tellAdmins, tellingOfQuota } from "../quota/check.ts";
import { countNamed, type UsageChange } from "../quota/count.ts";
import { EXPIRY_LABEL, labeledLifetimeMs } from "../tag/expiration.ts";
import { setTag } from "../tag/tag.ts";
import {
  endChildLeases,
  findLinkedBlobs,
  findManifestIds,
  insertChild,
  insertManifestBlob,
  insertMissingBlob,
  joinWaitingParents,
  lockRepository,
  putManifestRow,
  showBlobsOf,
} from "./queries.ts";

type PutApp = Pick<App, "config" | "db" | "clock" | "lookup" | "storage" | "log" | "pulls">;

export interface PutManifest {
  repository: RepositoryFacts;
  reference: Reference;
  /** Further tags to set, from `?tag=` (draft of distribution-spec 1.2). */
  tags: readonly TagName[];
  contentType: string | undefined;
  content: Uint8Array;
  request: RequestOrigin;
}

export interface PutManifestResult {
  readonly digest: Digest;
  readonly subject: Digest | undefined;
  readonly mediaType: string;
}

/**
 * Stores a manifest as it was pushed and points its tags at it. Throws `digest_invalid` when the bytes are not the
 * reference's, `manifest_invalid` and its kin from parsing, `manifest_blob_unknown` when a blob or child is missing.
 */
export async function putManifest(app: PutApp, caller: Caller, input: PutManifest): Promise<PutManifestResult> {
  const { repository, reference, content } = input;
  const algorithm = reference.kind === "digest" ? digestAlgorithm(reference.digest) : "sha256";
  const digest = digestOf(content, algorithm);
  if (reference.kind === "digest" && reference.digest !== digest) {
    throw new RegistryError("digest_invalid", {
      message: `manifest digest mismatch: the body has "${digest}", the path says "${reference.digest}"`,
      detail: { digest: reference.digest, actual: digest },
    });
  }
  const parsed = parseManifest(content, input.contentType);
  checkArtifactTypes(parsed, app.config);
  const tags = [...new Set(reference.kind === "tag" ? [reference.tag, ...input.tags] : input.tags)];
  // Read here because no other writer should wait for storage.
  const labels = await readImageLabels(app, repository.id, parsed);

  const push = { caller, input, digest, parsed, tags, labels };
  const usage = await tellingOfQuota(app, () => app.db.tx((tx) => write(app, tx, push)));
  if (usage?.severity === "Warning") await tellAdmins(app, usage.namespaceId, "Warning");
  if (tags.length > 0) app.pulls.notePush(repository.id);
  return { digest, subject: parsed.subject?.digest, mediaType: parsed.mediaType };
}

interface Push {
  readonly caller: Caller;
  readonly input: PutManifest;
  readonly digest: Digest;
  readonly parsed: ParsedManifest;
  readonly tags: readonly TagName[];
  readonly labels: ReadonlyMap<string, string>;
}

/** The transaction of a push. Throws `QuotaExceededError`; else gives how its namespace stands with its quota. */
async function write(app: PutApp, tx: Tx, push: Push): ReturnType<typeof settleWithinQuota> {
  const { digest, parsed, tags, labels } = push;
  const { repository, content } = push.input;
  const nowMs = app.clock.nowMs();
  await lockRepository(tx, repository);
  const named = await findNamed(app, tx, repository.id, parsed);
  const leaseUntilMs = tags.length > 0 ? null : nowMs + app.config.PUSH_TEMP_TAG_EXPIRATION_SEC * 1000;
  const row = { repositoryId: repository.id, digest, parsed, content, nowMs, leaseUntilMs };
  const { id, isNew } = await putManifestRow(tx, row);
  let change: UsageChange | undefined;
  if (isNew) {
    change = await countNamed(app.config, tx, repository, id, [...named.blobs.values()]);
    await insertNamed(tx, repository.id, id, parsed, named);
    await insertLabels(tx, repository.id, id, labels);
  } else await showBlobsOf(tx, repository.id, id);
  await joinWaitingParents(tx, repository.id, digest, id);
  if (parsed.kind === "index" && app.config.RESET_CHILD_MANIFEST_EXPIRATION) await endChildLeases(tx, id);
  if (tags.length > 0) await setTags(app, tx, push, { id, isNew }, nowMs);
  return settleWithinQuota(app.config, tx, repository.id, change);
}

async function setTags(
  app: PutApp,
  tx: Tx,
  { caller, input, parsed, tags, labels }: Push,
  manifest: { readonly id: number; readonly isNew: boolean },
  nowMs: number,
): Promise<void> {
  const { repository, request } = input;
  const rules = await loadImmutabilityRules(app.config, tx, repository);
  const isKnown = manifest.isNew && parsed.kind === "image";
  const value = isKnown ? labels.get(EXPIRY_LABEL) : await findExpiryLabel(tx, manifest.id);
  const lifetimeMs = value === undefined ? undefined : labeledLifetimeMs(app.config, value);
  const expiresMs = lifetimeMs === undefined ? undefined : nowMs + lifetimeMs;
  for (const name of tags) {
    await setTag(tx, { repositoryId: repository.id, rules, name, manifestId: manifest.id, expiresMs, nowMs });
    await logRepositoryAction(tx, { kind: "push_repo", caller, repository, request, nowMs, metadata: { tag: name } });
  }
}

interface Named {
  readonly blobs: ReadonlyMap<string, { readonly id: number; readonly sizeBytes: number }>;
  readonly missingBlobs: readonly Digest[];
  readonly children: ReadonlyMap<string, number>;
}

/** What the document names and the repository has. Throws when something is missing that must not be. */
async function findNamed(app: PutApp, tx: Tx, repositoryId: number, parsed: ParsedManifest): Promise<Named> {
  const local = [parsed.config, ...parsed.layers].filter(
    (descriptor) => descriptor !== undefined && !isExternalLayerMediaType(descriptor.mediaType),
  );
  const digests = unique(local.map((descriptor) => descriptor?.digest as Digest));
  const blobs = await findLinkedBlobs(tx, repositoryId, digests);
  const missingBlobs = digests.filter((digest) => !blobs.has(digest));
  if (missingBlobs.length > 0 && !app.config.FEATURE_SPARSE_MANIFEST) throw unknownBlobs(missingBlobs);
  for (const descriptor of local) {
    const blob = descriptor && blobs.get(descriptor.digest);
    if (!blob || blob.sizeBytes === descriptor.sizeBytes) continue;
    throw new RegistryError("manifest_invalid", {
      message: `failed to parse manifest: the blob "${descriptor.digest}" has ${blob.sizeBytes} bytes, the descriptor says ${descriptor.sizeBytes}`,
      detail: { digest: descriptor.digest, size: descriptor.sizeBytes },
    });
  }
  const childDigests = unique(parsed.manifests.map((descriptor) => descriptor.digest));
  const children = await findManifestIds(tx, repositoryId, childDigests);
  const missingChildren = childDigests.filter((digest) => !children.has(digest));
  if (missingChildren.length > 0 && !app.config.FEATURE_SPARSE_INDEX) throw unknownBlobs(missingChildren);
  return { blobs, missingBlobs, children };
}

async function insertNamed(
  tx: Tx,
  repositoryId: number,
  manifestId: number,
  parsed: ParsedManifest,
  named: Named,
): Promise<void> {
  for (const { id } of named.blobs.values()) await insertManifestBlob(tx, { manifestId, blobId: id, repositoryId });
  for (const missing of named.missingBlobs) await insertMissingBlob(tx, { manifestId, digest: missing, repositoryId });
  for (const [position, child] of parsed.manifests.entries()) {
    const childId = named.children.get(child.digest);
    await insertChild(tx, { manifestId, position, repositoryId, digest: child.digest, childId });
  }
}

async function insertLabels(
  tx: Tx,
  repositoryId: number,
  manifestId: number,
  labels: ReadonlyMap<string, string>,
): Promise<void> {
  for (const [key, value] of labels) {
    const mediaType = labelMediaType(undefined, value);
    await insertLabel(tx, { repositoryId, manifestId, key, value, sourceType: "manifest", mediaType });
  }
}

/** Digests named in one error: enough to see what is wrong. */
const UNKNOWN_SHOWN_MAX = 20;

function unknownBlobs(digests: readonly Digest[]): RegistryError {
  return new RegistryError("manifest_blob_unknown", {
    message: `Unknown blob \`${digests[0]}\``,
    detail: { digests: digests.slice(0, UNKNOWN_SHOWN_MAX) },
  });
}

function unique<T>(items: readonly T[]): T[] {
  return [...new Set(items)];
}

/**
 * Labels of manifests as the API shows and changes them. What an image brought along can be read and not deleted; a label
 * that limits the life of tags acts on the living ones at once. Source: quay-api reference, section 9.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import type { Digest } from "../../oci/digest.ts";
import type { Caller } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { loadImmutabilityRules } from "../immutability/rules.ts";
import { referenceKey } from "../lookup/lookup.ts";
import { requireManifest } from "../manifest/queries.ts";
import { EXPIRY_LABEL, labeledExpiration, labeledLifetimeMs } from "../tag/expiration.ts";
import { listTagsOfManifest, setTagExpiry } from "../tag/queries.ts";
import { isAlive } from "../tag/tag.ts";
import { countLabels, deleteLabelRow, findLabelRow, insertLabel, type Label, listLabelRows } from "./queries.ts";
import { labelMediaType, requireLabelKey, requireLabelValue } from "./rules.ts";

type LabelApp = Pick<App, "config" | "db" | "clock">;

/** Labels that one manifest may have; the list of them has no pages. */
const LABELS_MAX = 1000;

/** Labels whose key begins with `prefix`, in the order they came. Throws `not_found` for an unknown manifest. */
export async function listLabels(
  app: LabelApp,
  repository: RepositoryFacts,
  digest: Digest,
  prefix = "",
): Promise<Label[]> {
  const manifest = await requireManifest(app.db, repository.id, digest);
  if (prefix.includes("\0")) return [];
  return listLabelRows(app.db, manifest.id, prefix, LABELS_MAX);
}

/** Throws `not_found`. */
export async function getLabel(
  app: LabelApp,
  repository: RepositoryFacts,
  digest: Digest,
  uuid: string,
): Promise<Label> {
  const manifest = await requireManifest(app.db, repository.id, digest);
  return requireLabel(await findLabelRow(app.db, manifest.id, uuid));
}

export interface AddLabel {
  repository: RepositoryFacts;
  digest: Digest;
  key: string;
  value: string;
  /** Null: found out from the value. */
  mediaType: string | null | undefined;
  request: RequestOrigin;
}

/** Adds a label. Throws `not_found`, and `invalid_request` for a key, value or media type that a label cannot have. */
export async function addLabel(app: LabelApp, caller: Caller, input: AddLabel): Promise<Label> {
  const { repository, digest, key, value } = input;
  requireLabelKey(key, app.config.LABEL_KEY_RESERVED_PREFIXES);
  requireLabelValue(value);
  const mediaType = labelMediaType(input.mediaType, value);
  const nowMs = app.clock.nowMs();
  return app.db.tx(async (tx) => {
    const manifest = await requireManifest(tx, repository.id, digest);
    if ((await countLabels(tx, manifest.id)) >= LABELS_MAX) {
      throw new RegistryError("invalid_request", {
        message: `The manifest has ${LABELS_MAX} labels, which is the most`,
      });
    }
    const row = { repositoryId: repository.id, manifestId: manifest.id, key, value, mediaType };
    const label = await insertLabel(tx, { ...row, sourceType: "api" });
    await logLabel(tx, "manifest_label_add", { caller, input, label, nowMs });
    if (key === EXPIRY_LABEL) await applyExpiry(app, tx, repository, manifest.id, value, nowMs);
    return label;
  });
}

/** Throws `not_found`, and `invalid_request` for a label that came with the image. */
export async function deleteLabel(
  app: LabelApp,
  caller: Caller,
  target: { repository: RepositoryFacts; digest: Digest; uuid: string; request: RequestOrigin },
): Promise<void> {
  const { repository, digest, uuid } = target;
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    const manifest = await requireManifest(tx, repository.id, digest);
    const label = requireLabel(await findLabelRow(tx, manifest.id, uuid));
    if (label.sourceType !== "api") {
      throw new RegistryError("invalid_request", { message: "Cannot delete immutable label" });
    }
    await deleteLabelRow(tx, manifest.id, uuid);
    await logLabel(tx, "manifest_label_delete", { caller, input: target, label, nowMs });
  });
}

/** Living tags of the manifest end when the label says, but for immutable ones; a value that is no duration does nothing. */
async function applyExpiry(
  app: LabelApp,
  tx: Tx,
  repository: RepositoryFacts,
  manifestId: number,
  value: string,
  nowMs: number,
): Promise<void> {
  const lifetimeMs = labeledLifetimeMs(app.config, value);
  if (lifetimeMs === undefined) return;
  const rules = await loadImmutabilityRules(app.config, tx, repository);
  for (const { name, tag } of await listTagsOfManifest(tx, manifestId)) {
    if (!isAlive(tag, nowMs) || !rules.mayExpire(name, tag)) continue;
    await setTagExpiry(tx, tag, labeledExpiration(app.config, { startMs: tag.startMs, lifetimeMs, nowMs }));
    tx.changed(referenceKey(repository.id, name));
  }
}

function requireLabel(label: Label | undefined): Label {
  if (!label) throw new RegistryError("not_found");
  return label;
}

async function logLabel(
  tx: Tx,
  kind: "manifest_label_add" | "manifest_label_delete",
  entry: {
    caller: Caller;
    input: { repository: RepositoryFacts; digest: Digest; request: RequestOrigin };
    label: Label;
    nowMs: number;
  },
): Promise<void> {
  const { caller, input, label, nowMs } = entry;
  const { repository } = input;
  await logAction(tx, {
    kind,
    caller,
    namespaceId: repository.namespaceId,
    repositoryId: repository.id,
    request: input.request,
    nowMs,
    metadata: {
      id: label.uuid,
      key: label.key,
      value: label.value,
      manifest_digest: input.digest,
      namespace: repository.namespace,
      repo: repository.name,
    },
  });
}

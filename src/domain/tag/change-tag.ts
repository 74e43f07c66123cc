/**
 * What the API changes of a tag: the manifest it points at, its expiration, its immutability, and its return to an older
 * manifest. Source: quay-api reference, section 8; quay-behaviour, section 6.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import type { Digest } from "../../oci/digest.ts";
import type { TagName } from "../../oci/reference.ts";
import type { Caller } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import type { RequestOrigin } from "../audit/audit.ts";
import { type ImmutabilityRules, loadImmutabilityRules, tagImmutable } from "../immutability/rules.ts";
import { findExpiryLabel } from "../label/expiry-label.ts";
import { referenceKey, repositoryKey } from "../lookup/lookup.ts";
import {
  findManifestDigest,
  findManifestRow,
  hasAllBlobs,
  joinWaitingParents,
  lockRepository,
  reviveManifest,
  showBlobsOf,
} from "../manifest/queries.ts";
import { clampExpiration, labeledLifetimeMs } from "./expiration.ts";
import { type CurrentTag, findCurrentTag, setTagExpiry, setTagProtection } from "./queries.ts";
import { isAlive, logTagChange, setTag } from "./tag.ts";

type ChangeApp = Pick<App, "config" | "db" | "clock">;

export interface ChangeTag {
  repository: RepositoryFacts;
  name: TagName;
  /** Where the tag is to point. */
  digest?: Digest | undefined;
  /** Unix seconds, null for no end. */
  expirationS?: number | null | undefined;
  immutable?: boolean | undefined;
  /** Only admins of the repository may let an immutable tag be changed again. */
  isAdmin: boolean;
  request: RequestOrigin;
}

/** One change on its way: what all steps share. */
interface Step extends ChangeTag {
  tx: Tx;
  caller: Caller;
  rules: ImmutabilityRules;
  nowMs: number;
}

/**
 * Creates or moves a tag, sets its expiration and its immutability, all or nothing. Throws `not_found` when the manifest, or
 * without one the tag, is not there; `invalid_request` for an expiration that is past, `tag_immutable`, `denied`.
 */
export async function changeTag(app: ChangeApp, caller: Caller, change: ChangeTag): Promise<void> {
  const nowMs = app.clock.nowMs();
  const wantedMs = readExpiration(change.expirationS, nowMs);
  if (change.immutable !== undefined && !app.config.FEATURE_IMMUTABLE_TAGS) {
    throw new RegistryError("invalid_request", { message: "Immutable tags are turned off on this registry" });
  }
  await app.db.tx(async (tx) => {
    await lockRepository(tx, change.repository);
    const rules = await loadImmutabilityRules(app.config, tx, change.repository);
    const step: Step = { ...change, tx, caller, rules, nowMs };
    let current = await findAlive(step);
    if (change.digest === undefined && !current) throw new RegistryError("not_found");
    if (change.immutable === false && current) current = await setImmutable(step, current, false);
    if (change.digest !== undefined) current = await point(app, step, change.digest, current);
    if (!current) throw new RegistryError("not_found");
    if (change.immutable === false) current = await setImmutable(step, current, false);
    if (wantedMs !== undefined) current = await setExpiration(app, step, current, wantedMs);
    if (change.immutable === true) await setImmutable(step, current, true);
    tx.changed(referenceKey(change.repository.id, change.name));
  });
}

/**
 * Points a tag at a manifest of the repository that may be dead, which comes back to life with its blobs. Throws
 * `not_found`, `tag_immutable`, and `invalid_request` when parts of the manifest are gone.
 */
export async function restoreTag(
  app: ChangeApp,
  caller: Caller,
  target: { repository: RepositoryFacts; name: TagName; digest: Digest },
  request: RequestOrigin,
): Promise<void> {
  const { repository, name, digest } = target;
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    await lockRepository(tx, repository);
    const manifest = await findManifestRow(tx, repository.id, digest);
    if (!manifest) throw new RegistryError("not_found");
    if (!(await hasAllBlobs(tx, repository.id, manifest.id))) {
      throw new RegistryError("invalid_request", { message: "Could not restore tag" });
    }
    if (manifest.isDeleted) {
      await reviveManifest(tx, manifest.id, nowMs + app.config.PUSH_TEMP_TAG_EXPIRATION_SEC * 1000);
      await showBlobsOf(tx, repository.id, manifest.id);
      await joinWaitingParents(tx, repository.id, digest, manifest.id);
      tx.changed(repositoryKey(repository.id));
    }
    const rules = await loadImmutabilityRules(app.config, tx, repository);
    const expiresMs = await labelExpiry(app, tx, manifest.id, nowMs);
    await setTag(tx, {
      repositoryId: repository.id,
      rules,
      name,
      manifestId: manifest.id,
      expiresMs,
      reversion: true,
      nowMs,
    });
    const metadata = { manifest_digest: digest };
    await logTagChange(tx, { kind: "revert_tag", caller, repository, name, request, nowMs, metadata });
  });
}

/** Milliseconds, null for "no end", undefined for "as it is". */
function readExpiration(expirationS: number | null | undefined, nowMs: number): number | null | undefined {
  if (expirationS === undefined || expirationS === null) return expirationS;
  const wantedMs = Math.floor(expirationS * 1000);
  if (Number.isSafeInteger(wantedMs) && wantedMs > nowMs) return wantedMs;
  throw new RegistryError("invalid_request", {
    message: `The expiration "${expirationS}" is not a time in the future, in seconds since 1970`,
  });
}

async function findAlive({ tx, repository, name, nowMs }: Step): Promise<CurrentTag | undefined> {
  const found = await findCurrentTag(tx, repository.id, name);
  return found && isAlive(found, nowMs) ? found : undefined;
}

async function point(app: ChangeApp, step: Step, digest: Digest, before: CurrentTag | undefined): Promise<CurrentTag> {
  const { tx, repository, rules, name, nowMs } = step;
  const manifest = await findManifestRow(tx, repository.id, digest);
  if (!manifest || manifest.isDeleted) throw new RegistryError("not_found");
  const expiresMs = await labelExpiry(app, tx, manifest.id, nowMs);
  const input = { repositoryId: repository.id, rules, name, manifestId: manifest.id, expiresMs, nowMs };
  const { current } = await setTag(tx, input);
  const original = before && (await findManifestDigest(tx, before.manifestId));
  await logTagChange(tx, {
    ...step,
    kind: before ? "move_tag" : "create_tag",
    metadata: { manifest_digest: digest, original_manifest_digest: original ?? null },
  });
  return current;
}

async function setExpiration(
  app: ChangeApp,
  step: Step,
  tag: CurrentTag,
  wantedMs: number | null,
): Promise<CurrentTag> {
  const { tx, rules, name, nowMs } = step;
  if (wantedMs !== null && !rules.mayExpire(name, tag)) throw tagImmutable(name, "given an expiration");
  const expiresMs =
    wantedMs === null ? undefined : clampExpiration(app.config, { startMs: tag.startMs, wantedMs, nowMs });
  if (expiresMs === tag.expiresMs) return tag;
  await setTagExpiry(tx, tag, expiresMs);
  await logTagChange(tx, {
    ...step,
    kind: "change_tag_expiration",
    metadata: { expiration_date: toSeconds(expiresMs), old_expiration_date: toSeconds(tag.expiresMs) },
  });
  return { ...tag, expiresMs };
}

async function setImmutable(step: Step, tag: CurrentTag, immutable: boolean): Promise<CurrentTag> {
  const { tx, rules, name } = step;
  const before = rules.isImmutable(name, tag);
  if (before === immutable) return tag;
  if (!immutable && !step.isAdmin) {
    throw new RegistryError("denied", {
      message: `tag "${name}" is immutable: only administrators of the repository can change that`,
    });
  }
  const changed = { ...tag, immutable, immutabilityLifted: !immutable && rules.isCovered(name) };
  if (immutable && tag.expiresMs !== undefined && !rules.mayExpire(name, changed)) {
    throw new RegistryError("invalid_request", {
      message: `tag "${name}" has an expiration: clear it before making the tag immutable`,
      detail: { tag: name },
    });
  }
  await setTagProtection(tx, tag, changed);
  await logTagChange(tx, {
    ...step,
    kind: "change_tag_immutability",
    metadata: { immutable, original_immutable: before },
  });
  return changed;
}

/** When a tag that is pointed at this manifest now ends, as the manifest's label says. */
async function labelExpiry(app: ChangeApp, tx: Tx, manifestId: number, nowMs: number): Promise<number | undefined> {
  const value = await findExpiryLabel(tx, manifestId);
  const lifetimeMs = value === undefined ? undefined : labeledLifetimeMs(app.config, value);
  return lifetimeMs === undefined ? undefined : nowMs + lifetimeMs;
}

function toSeconds(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.floor(ms / 1000);
}

/** The sentences of `explain.ts`: everything that keeps a thing now, and what keeps that in turn. */

import type { Db } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { Horizons } from "./horizon.ts";
import type { LinkKeepers, Purge, TagKeeper } from "./what-keeps.ts";

export type ReasonKind =
  | "tag"
  | "expiring-tag"
  | "ended-tag"
  | "lease"
  | "reservation"
  | "undelete"
  | "index"
  | "subject"
  | "manifest"
  | "repository"
  | "deleted-repository"
  | "deletion"
  | "copy";

export interface Reason {
  readonly kind: ReasonKind;
  /** What it is that keeps it: a tag, a digest, a repository, a store. */
  readonly name: string;
  /** Epoch ms; undefined: without an end, as things stand. */
  readonly untilMs: number | undefined;
  readonly sentence: string;
  /** What keeps that. */
  readonly because: readonly Reason[];
}

/** Reasons shown side by side, and how deep they go. */
const SHOWN_MAX = 10;
const DEPTH_MAX = 4;

/** The ones that last longest, the longest first. */
export function findLast(reasons: readonly (Reason | undefined)[]): Reason[] {
  const endOf = (reason: Reason) => reason.untilMs ?? Number.POSITIVE_INFINITY;
  return reasons
    .flatMap((reason) => reason ?? [])
    .sort((a, b) => (endOf(a) === endOf(b) ? 0 : endOf(b) - endOf(a)))
    .slice(0, SHOWN_MAX);
}

export class Reasons {
  readonly horizons: Horizons;
  readonly #db: Db;
  readonly #nowMs: number;

  constructor(db: Db, nowMs: number) {
    this.#db = db;
    this.#nowMs = nowMs;
    this.horizons = new Horizons(db);
  }

  /** Undefined once it is over: what has been keeping something and does no more is no reason. */
  #until(reason: Omit<Reason, "untilMs" | "because">, untilMs: number, because: readonly Reason[] = []) {
    if (untilMs <= this.#nowMs) return undefined;
    return { ...reason, untilMs: untilMs === Number.POSITIVE_INFINITY ? undefined : untilMs, because };
  }

  /** Of a tag's name: one of its lifetimes. */
  ofLifetime(tag: TagKeeper, digest: string): Reason | undefined {
    const sentence =
      tag.endMs !== undefined
        ? `it ended and can be restored to ${digest}`
        : tag.expiresMs !== undefined
          ? `it points at ${digest}, will expire and can be restored after that`
          : `it points at ${digest}`;
    return this.#until({ kind: kindOf(tag), name: tag.name, sentence }, tag.untilMs);
  }

  #ofTag(tag: TagKeeper): Reason | undefined {
    const sentence = {
      tag: `tag "${tag.name}" points at it`,
      "expiring-tag": `tag "${tag.name}" points at it, will expire and can be restored after that`,
      "ended-tag": `tag "${tag.name}" has pointed at it and can be restored`,
    }[kindOf(tag)];
    return this.#until({ kind: kindOf(tag), name: tag.name, sentence }, tag.untilMs);
  }

  /** Of a manifest that `horizons` has loaded. */
  async ofManifest(id: number, depth = 1): Promise<Reason[]> {
    const manifest = this.horizons.keepers(id);
    if (!manifest) return [];
    const { purge, leaseMs, restorableMs, tags, parentIds, subjectId } = manifest;
    const goes = purge && this.#ofPurge(purge);
    if (purge && (!goes || !purge.isRestorable)) return goes ? [goes] : [];
    const kin = (kind: "index" | "subject", kinId: number, sentence: string) =>
      this.#ofKin(kind, kinId, sentence, depth);
    const own = findLast([
      this.#until(
        { kind: "lease", name: manifest.digest, sentence: "it was pushed or restored without a tag lately" },
        leaseMs ?? 0,
      ),
      this.#until(
        { kind: "undelete", name: manifest.digest, sentence: "it was deleted and can be restored" },
        restorableMs ?? 0,
      ),
      ...tags.map((tag) => this.#ofTag(tag)),
      ...(await Promise.all(
        parentIds.slice(0, SHOWN_MAX).map((parentId) => kin("index", parentId, "an index names it")),
      )),
      subjectId === undefined ? undefined : await kin("subject", subjectId, "the manifest that it is about is kept"),
    ]);
    return cappedBy(goes, own);
  }

  async #ofKin(kind: "index" | "subject", id: number, sentence: string, depth: number): Promise<Reason | undefined> {
    const name = this.horizons.keepers(id)?.digest ?? "";
    const because = depth < DEPTH_MAX ? await this.ofManifest(id, depth + 1) : [];
    return this.#until({ kind, name, sentence }, this.horizons.ofManifest(id), because);
  }

  #ofPurge({ atMs, isRestorable }: Purge): Reason | undefined {
    const then = isRestorable ? "can be restored" : "is removed as a whole";
    const sentence = `its repository was deleted and ${then}`;
    return this.#until({ kind: "deleted-repository", name: "", sentence }, atMs);
  }

  /** Of a blob with these links, which `horizons` has loaded. */
  async ofBlob(leaseMs: number, links: readonly LinkKeepers[]): Promise<Reason[]> {
    const lasting = links
      .map((link) => ({ link, untilMs: this.horizons.ofLink(link) }))
      .sort((a, b) => (a.untilMs === b.untilMs ? 0 : b.untilMs - a.untilMs))
      .slice(0, SHOWN_MAX);
    const names = await this.#findNames(lasting.map(({ link }) => link.repositoryId));
    const ofLinks = await Promise.all(
      lasting.map(async ({ link, untilMs }) => {
        const name = names.get(link.repositoryId) ?? "";
        const because = await this.#ofLink(link);
        return this.#until({ kind: "repository", name, sentence: `repository "${name}" has it` }, untilMs, because);
      }),
    );
    const reservation = {
      kind: "reservation",
      name: "",
      sentence: "a push relies on its bytes, or a store that has them is away",
    } as const;
    return findLast([this.#until(reservation, leaseMs), ...ofLinks]);
  }

  async #ofLink({ purge, leaseMs, namerIds }: LinkKeepers): Promise<Reason[]> {
    const goes = purge && this.#ofPurge(purge);
    if (purge && (!goes || !purge.isRestorable)) return goes ? [goes] : [];
    const lasting = namerIds
      .map((id) => ({ id, untilMs: this.horizons.ofManifest(id) }))
      .sort((a, b) => (a.untilMs === b.untilMs ? 0 : b.untilMs - a.untilMs))
      .slice(0, SHOWN_MAX);
    const namers = await Promise.all(
      lasting.map(async ({ id, untilMs }) => {
        const name = this.horizons.keepers(id)?.digest ?? "";
        const because = await this.ofManifest(id, 3);
        return this.#until({ kind: "manifest", name, sentence: "a manifest there names it" }, untilMs, because);
      }),
    );
    const lease = { kind: "lease", name: "", sentence: "it was pushed or mounted there lately" } as const;
    return cappedBy(goes, findLast([this.#until(lease, leaseMs), ...namers]));
  }

  /** Of a blob that is marked: who still works on it. */
  async ofDeletion(blobId: number): Promise<Reason[]> {
    const copies = await this.#db.sql<{ location: string }>`/* gc_explain.copies */
      select location from blob_copy where blob_id = ${blobId} order by location`;
    const sentence = "nothing used it; its bytes are being deleted";
    return [
      { kind: "deletion", name: "", untilMs: undefined, sentence, because: [] },
      ...copies.map(({ location }): Reason => {
        const waits = `a copy to "${location}" that is under way is waited for`;
        return { kind: "copy", name: location, untilMs: undefined, sentence: waits, because: [] };
      }),
    ];
  }

  async #findNames(ids: readonly number[]): Promise<Map<number, string>> {
    const rows = await this.#db.sql<{ id: number; path: string; deleted: unknown; was: string | null; owner: string }>`
      /* gc_explain.names */
      select r.id, r.path, r.deleted_ms is not null as deleted, coalesce(a.restore_name, a.username) as owner,
        coalesce(r.restore_name, case when r.restore_state is not null and a.restore_name is not null then r.name end) as was
      from repository r join account a on a.id = r.namespace_id where ${this.#db.dialect.inList("r.id", ids)}`;
    return new Map(
      rows.map((row) => {
        const name = row.was === null ? row.path : `${row.owner}/${row.was}`;
        return [toNumber(row.id), toBoolean(row.deleted) ? `${name} (deleted)` : name];
      }),
    );
  }
}

function kindOf(tag: TagKeeper): "tag" | "expiring-tag" | "ended-tag" {
  if (tag.endMs !== undefined) return "ended-tag";
  return tag.expiresMs === undefined ? "tag" : "expiring-tag";
}

/** In a repository that goes at a time, what would keep it longer than that is no reason. */
function cappedBy(goes: Reason | undefined, own: Reason[]): Reason[] {
  if (!goes) return own;
  const endOf = ({ untilMs }: Reason) => untilMs ?? Number.POSITIVE_INFINITY;
  const shorter = own.filter((reason) => endOf(reason) <= endOf(goes));
  return shorter.length < own.length ? [goes, ...shorter] : own;
}

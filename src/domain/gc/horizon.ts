/**
 * When manifests, links and blobs go, as things stand: each at the end of the last that keeps it. Read in batches, upwards
 * from what is asked about: through indexes and subjects to tags, leases and windows.
 */

import type { Db } from "../../db/db.ts";
import { Allowance } from "../../lib/allowance.ts";
import { findLinkKeepers, findManifestKeepers, type LinkKeepers, type ManifestKeepers } from "./what-keeps.ts";

/** Manifests read by one statement. */
const BATCH = 200;
/** Rows read for one answer where nobody says otherwise. What lies beyond is kept as far as can be told. */
const ROWS_MAX = 20_000;
/** How far up: indexes in indexes and referrers of referrers go deeper than this only to tire somebody. */
const LEVELS_MAX = 100;
const NEVER = Number.POSITIVE_INFINITY;

/** Epoch ms from which on nothing keeps it; in the past: it is due. Infinity: something without an end keeps it. */
export type Horizon = number;

export class Horizons {
  /** True when some answers came out as "kept" only because there was too much to look at. */
  isCut = false;
  readonly #db: Db;
  readonly #allowance: Allowance;
  readonly #manifests = new Map<number, ManifestKeepers>();
  readonly #known = new Map<number, Horizon>();
  readonly #asked = new Set<number>();

  constructor(db: Db, allowance = new Allowance(ROWS_MAX)) {
    this.#db = db;
    this.#allowance = allowance;
  }

  /** Reads all that these manifests depend on. What it has read is not read again. */
  async load(ids: Iterable<number>): Promise<void> {
    let next = [...ids];
    for (let level = 0; next.length > 0; level++) {
      const fresh = [...new Set(next)].filter((id) => !this.#asked.has(id));
      next = [];
      for (let at = 0; at < fresh.length; at += BATCH) {
        const batch = fresh.slice(at, at + BATCH);
        if (level === LEVELS_MAX || this.#allowance.isSpent) {
          this.isCut = true;
          return;
        }
        for (const id of batch) this.#asked.add(id);
        const found = await findManifestKeepers(this.#db, batch);
        for (const [id, keepers] of found) {
          this.#manifests.set(id, keepers);
          next.push(...keepers.parentIds, ...(keepers.subjectId === undefined ? [] : [keepers.subjectId]));
        }
        await this.#allowance.spend(rowsOf(found));
      }
    }
  }

  /** What keeps a manifest that was loaded; undefined: it is gone, or was not read. */
  keepers(id: number): ManifestKeepers | undefined {
    return this.#manifests.get(id);
  }

  /** Of a manifest that was loaded. */
  ofManifest(id: number): Horizon {
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    // Who keeps whom has no circles: digests are of contents. One in a broken database keeps itself.
    this.#known.set(id, NEVER);
    const horizon = this.#work(id);
    this.#known.set(id, horizon);
    return horizon;
  }

  #work(id: number): Horizon {
    const manifest = this.#manifests.get(id);
    if (!manifest) {
      // Gone meanwhile: it keeps nothing. Not read: nobody knows.
      if (this.#asked.has(id)) return 0;
      this.isCut = true;
      return NEVER;
    }
    if (manifest.purge?.isRestorable === false) return manifest.purge.atMs;
    return Math.min(this.#byItself(manifest), manifest.purge?.atMs ?? NEVER);
  }

  #byItself(manifest: ManifestKeepers): Horizon {
    if (manifest.isCut) {
      this.isCut = true;
      return NEVER;
    }
    const { leaseMs, restorableMs, tags, parentIds, subjectId } = manifest;
    const ends = [
      ...(leaseMs === undefined ? [] : [leaseMs]),
      ...(restorableMs === undefined ? [] : [restorableMs]),
      ...tags.map(({ untilMs }) => untilMs),
      ...parentIds.map((parentId) => this.ofManifest(parentId)),
      ...(subjectId === undefined ? [] : [this.ofManifest(subjectId)]),
    ];
    // Nobody looks at what has no appointment and nothing that ends.
    return ends.length === 0 ? NEVER : latest(ends);
  }

  /** Links of these blobs, with all that their manifests depend on. */
  async loadLinks(blobIds: readonly number[]): Promise<LinkKeepers[]> {
    const links = await findLinkKeepers(this.#db, blobIds);
    await this.#allowance.spend(links.reduce((sum, { namerIds }) => sum + 1 + namerIds.length, 0));
    const alone = links.filter(({ purge }) => purge?.isRestorable !== false);
    await this.load(alone.flatMap(({ namerIds }) => namerIds));
    return links;
  }

  /** Of a link that `loadLinks` gave. */
  ofLink(link: LinkKeepers): Horizon {
    const { purge, isCut, namerIds, leaseMs } = link;
    const purgeMs = purge?.atMs ?? NEVER;
    if (purge?.isRestorable === false) return purgeMs;
    if (isCut) {
      this.isCut = true;
      return purgeMs;
    }
    const ends = namerIds.map((id) => this.ofManifest(id));
    if (leaseMs > 0) ends.push(leaseMs);
    return Math.min(purgeMs, ends.length === 0 ? NEVER : latest(ends));
  }

  /** Of a blob whose links these are, all of them; `leaseMs` as its row has it. */
  ofBlob(leaseMs: number, links: readonly LinkKeepers[]): Horizon {
    const ends = links.map((link) => this.ofLink(link));
    if (leaseMs > 0) ends.push(leaseMs);
    return ends.length === 0 ? NEVER : latest(ends);
  }
}

function rowsOf(found: ReadonlyMap<number, ManifestKeepers>): number {
  let rows = 0;
  for (const { tags, parentIds } of found.values()) rows += 1 + tags.length + parentIds.length;
  return rows;
}

function latest(times: readonly number[]): number {
  let last = 0;
  for (const time of times) last = Math.max(last, time);
  return last;
}

/**
 * A small model of what must live and what must go, in memory: the rules of `domain/gc/NOTES.md` written once more, as
 * plainly as can be, without leases that are appointments, without transactions, without batches.
 */

export interface ModelManifest {
  readonly digest: string;
  readonly blobs: readonly string[];
  readonly children: readonly string[];
  readonly subject: string | undefined;
  deletedMs: number | undefined;
  /** Protected until then, undefined by nothing but what points at it. */
  leaseMs: number | undefined;
}

interface Lifetime {
  readonly name: string;
  readonly digest: string;
  readonly startMs: number;
  endMs: number | undefined;
}

/** Of the tags that match, all but the newest end, or those past an age. */
export interface ModelPolicy {
  /** The registry's name for it. */
  readonly uuid: string;
  readonly method: "number_of_tags" | "creation_date";
  readonly keep: number;
  readonly ageMs: number;
  readonly pattern: RegExp;
  readonly matches: boolean;
}

/** One repository; times are epoch ms of a clock that the caller moves. */
export class ModelRepository {
  policy: ModelPolicy | undefined;
  readonly lifetimes: Lifetime[] = [];
  readonly manifests = new Map<string, ModelManifest>();
  /** Until when a blob of the repository is protected, whoever names it. */
  readonly links = new Map<string, { leaseMs: number; isHidden: boolean }>();

  link(blob: string, leaseMs: number): void {
    this.links.set(blob, { leaseMs, isHidden: false });
  }

  /** A push by tag, or by digest with a lease. */
  put(
    manifest: Pick<ModelManifest, "digest" | "blobs" | "children" | "subject">,
    tag: string | undefined,
    nowMs: number,
    leaseMs: number,
  ): void {
    let stored = this.manifests.get(manifest.digest);
    if (!stored) {
      stored = { ...manifest, deletedMs: undefined, leaseMs: undefined };
      this.manifests.set(manifest.digest, stored);
    }
    stored.deletedMs = undefined;
    this.#show(stored);
    if (tag === undefined) stored.leaseMs = leaseMs;
    else this.point(tag, manifest.digest, nowMs);
  }

  point(name: string, digest: string, nowMs: number): void {
    const current = this.current(name);
    if (current?.digest === digest) return;
    if (current) current.endMs = nowMs;
    this.lifetimes.push({ name, digest, startMs: nowMs, endMs: undefined });
  }

  current(name: string): Lifetime | undefined {
    return this.lifetimes.find((lifetime) => lifetime.name === name && lifetime.endMs === undefined);
  }

  deleteManifest(digest: string, nowMs: number): void {
    const manifest = this.manifests.get(digest);
    if (manifest) Object.assign(manifest, { deletedMs: nowMs, leaseMs: undefined });
    for (const lifetime of this.lifetimes) {
      if (lifetime.digest === digest && lifetime.endMs === undefined) lifetime.endMs = nowMs;
    }
  }

  /** The tag goes back to a manifest that may be dead. */
  restore(name: string, digest: string, nowMs: number, leaseMs: number): void {
    const manifest = this.manifests.get(digest);
    if (!manifest) return;
    if (manifest.deletedMs !== undefined) {
      manifest.deletedMs = undefined;
      manifest.leaseMs = leaseMs;
      this.#show(manifest);
    }
    this.point(name, digest, nowMs);
  }

  /** True when a blob can be deleted: it is there, and no manifest that is there names it. */
  mayDeleteBlob(blob: string): boolean {
    const link = this.links.get(blob);
    return link !== undefined && !link.isHidden && !this.#isNamed(blob, (manifest) => manifest.deletedMs === undefined);
  }

  deleteBlob(blob: string, nowMs: number): void {
    const link = this.links.get(blob);
    if (link) Object.assign(link, { isHidden: true, leaseMs: nowMs });
  }

  /** When leases, windows and the ages of policies are over. */
  *ends(windowMs: number): Generator<number> {
    for (const { startMs, endMs } of this.lifetimes) {
      if (endMs !== undefined) yield endMs + windowMs;
      if (this.policy?.method === "creation_date") yield startMs + this.policy.ageMs;
    }
    for (const { leaseMs, deletedMs } of this.manifests.values()) {
      if (leaseMs !== undefined) yield leaseMs;
      if (deletedMs !== undefined) yield deletedMs + windowMs;
    }
    for (const { leaseMs } of this.links.values()) yield leaseMs;
  }

  /** Ends the tags that the policy has no use for. */
  prune(nowMs: number): void {
    const { policy } = this;
    if (!policy) return;
    // The newest first: what began later stands later.
    const living = this.lifetimes
      .filter(({ name, endMs }) => endMs === undefined && policy.pattern.test(name) === policy.matches)
      .reverse();
    const isOver = ({ startMs }: Lifetime, place: number) =>
      policy.method === "number_of_tags" ? place >= policy.keep : startMs <= nowMs - policy.ageMs;
    for (const lifetime of living.filter(isOver)) lifetime.endMs = nowMs;
  }

  /** The distinct blobs that manifests name: what counts for quotas. */
  named(): ReadonlySet<string> {
    return new Set([...this.manifests.values()].flatMap(({ blobs }) => blobs));
  }

  /** Everything goes that nothing keeps; again and again, until nothing changes. */
  collect(nowMs: number, windowMs: number): void {
    const restorable = this.lifetimes.filter(({ endMs }) => endMs === undefined || endMs > nowMs - windowMs);
    this.lifetimes.splice(0, this.lifetimes.length, ...restorable);
    for (let isChanged = true; isChanged; ) {
      isChanged = false;
      for (const manifest of [...this.manifests.values()]) {
        if (this.#isKept(manifest, nowMs, windowMs)) continue;
        this.manifests.delete(manifest.digest);
        isChanged = true;
      }
    }
    for (const [blob, { leaseMs }] of [...this.links]) {
      if (leaseMs <= nowMs && !this.#isNamed(blob, () => true)) this.links.delete(blob);
    }
  }

  #isKept(manifest: ModelManifest, nowMs: number, windowMs: number): boolean {
    const { digest, deletedMs, leaseMs, subject } = manifest;
    if (leaseMs !== undefined && leaseMs > nowMs) return true;
    if (this.lifetimes.some((lifetime) => lifetime.digest === digest)) return true;
    if (subject !== undefined && this.manifests.has(subject)) return true;
    if ([...this.manifests.values()].some(({ children }) => children.includes(digest))) return true;
    return deletedMs !== undefined && deletedMs + windowMs > nowMs;
  }

  #isNamed(blob: string, counts: (manifest: ModelManifest) => boolean): boolean {
    return [...this.manifests.values()].some((manifest) => counts(manifest) && manifest.blobs.includes(blob));
  }

  #show(manifest: ModelManifest): void {
    for (const blob of manifest.blobs) {
      const link = this.links.get(blob);
      if (link) link.isHidden = false;
    }
  }
}

/**
 * Counts pulls and pushes beside the answers: a pull adds to a map, and every few seconds the sums go to the database in
 * one small transaction. A crash loses some seconds of counts, which nobody was promised. Reading them: `statistics.ts`.
 */

import type { Database, Tx } from "../../db/db.ts";
import type { Clock } from "../../lib/clock.ts";
import { errorFields, type Logger } from "../../observe/logger.ts";
import type { Digest } from "../../oci/digest.ts";
import type { Reference } from "../../oci/reference.ts";

/** From the first count to its place in the database. */
const FLUSH_MS = 3_000;
/** Rows in one transaction: on SQLite other writers wait some ten milliseconds for it. */
const ROWS_MAX = 1_000;
/** Different tags and manifests waiting at once. Past it only those that are waiting are counted: some megabytes at most. */
const WAITING_MAX = 50_000;
/** Pulls of one cached manifest that are added up before they are sorted to their rows. */
const FRESH_MAX = 1_000;
const DAY_MS = 86_400_000;

/** Pulls of one manifest by one reference since the last sorting. */
interface FreshCount {
  readonly repositoryId: number;
  readonly reference: Reference;
  readonly digest: Digest;
  count: number;
  lastMs: number;
  askedMs: number;
}

interface TagCount {
  readonly repositoryId: number;
  readonly tag: string;
  count: number;
  lastMs: number;
  digest: Digest;
}

interface ManifestCount {
  readonly repositoryId: number;
  readonly digest: Digest;
  count: number;
  /** 0: not pulled. */
  lastMs: number;
  /** 0: not asked for otherwise. */
  askedMs: number;
}

interface ActionCount {
  readonly repositoryId: number;
  readonly day: number;
  count: number;
}

/** Counts that wait, by a key that names their row. */
class Waiting {
  readonly tags = new Map<string, TagCount>();
  readonly manifests = new Map<string, ManifestCount>();
  readonly actions = new Map<string, ActionCount>();

  get size(): number {
    return this.tags.size + this.manifests.size + this.actions.size;
  }

  tag(key: string, add: TagCount): boolean {
    const known = this.tags.get(key);
    if (!known) return this.#insert(this.tags, key, add);
    known.count += add.count;
    if (add.lastMs >= known.lastMs) {
      known.lastMs = add.lastMs;
      known.digest = add.digest;
    }
    return true;
  }

  manifest(key: string, add: ManifestCount): boolean {
    const known = this.manifests.get(key);
    if (!known) return this.#insert(this.manifests, key, add);
    known.count += add.count;
    known.lastMs = Math.max(known.lastMs, add.lastMs);
    known.askedMs = Math.max(known.askedMs, add.askedMs);
    return true;
  }

  action(key: string, add: ActionCount): boolean {
    const known = this.actions.get(key);
    if (!known) return this.#insert(this.actions, key, add);
    known.count += add.count;
    return true;
  }

  #insert<T>(map: Map<string, T>, key: string, value: T): boolean {
    if (this.size >= WAITING_MAX) return false;
    map.set(key, value);
    return true;
  }
}

export interface PullCounterOptions {
  db: Database;
  clock: Clock;
  log: Logger;
}

export class PullCounter {
  readonly #options: PullCounterOptions;
  #waiting = new Waiting();
  #fresh: FreshCount[] = [];
  /** Weak: what waits to be counted must not keep a manifest's bytes in memory. */
  #freshOf = new WeakMap<object, FreshCount>();
  #lost = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #flushing: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: PullCounterOptions) {
    this.#options = options;
  }

  /**
   * A manifest was handed out: by tag it counts for the tag and the manifest, by digest for the manifest. `manifest` is the
   * cached one, which is the same object as long as the reference names it: a busy tag's pull is one look-up here.
   */
  note(repositoryId: number, reference: Reference, manifest: { readonly digest: Digest }): void {
    const lastMs = this.#options.clock.nowMs();
    const known = this.#freshOf.get(manifest);
    if (known) {
      known.count++;
      known.lastMs = lastMs;
      return;
    }
    this.#begin(repositoryId, reference, manifest, { count: 1, lastMs, askedMs: 0 });
  }

  /**
   * A manifest was asked for and not handed out, by HEAD or because the client has it: no pull, but somebody uses it. Costs
   * what `note` does.
   */
  noteAsked(repositoryId: number, reference: Reference, manifest: { readonly digest: Digest }): void {
    const askedMs = this.#options.clock.nowMs();
    const known = this.#freshOf.get(manifest);
    if (known) known.askedMs = askedMs;
    else this.#begin(repositoryId, reference, manifest, { count: 0, lastMs: 0, askedMs });
  }

  #begin(
    repositoryId: number,
    reference: Reference,
    manifest: { readonly digest: Digest },
    first: Pick<FreshCount, "count" | "lastMs" | "askedMs">,
  ): void {
    if (this.#fresh.length >= FRESH_MAX) this.#sort();
    const fresh: FreshCount = { repositoryId, reference, digest: manifest.digest, ...first };
    this.#fresh.push(fresh);
    this.#freshOf.set(manifest, fresh);
    this.#schedule();
  }

  /** A tag was pushed: that counts for the repository's activity. */
  notePush(repositoryId: number): void {
    this.#addAction(repositoryId, this.#options.clock.nowMs(), 1);
    this.#schedule();
  }

  /** Writes what waits, after what is being written. What cannot be written waits on; it never throws. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#flushing = this.#flushing.then(() => this.#writeAll());
    return this.#flushing;
  }

  /** Writes what waits and takes no more. */
  async stop(): Promise<void> {
    await this.flush();
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** Adds what came in since the last time to the rows that wait. */
  #sort(): void {
    const waiting = this.#waiting;
    for (const { repositoryId, reference, digest, count, lastMs, askedMs } of this.#fresh) {
      const isKept = waiting.manifest(`${repositoryId} ${digest}`, { repositoryId, digest, count, lastMs, askedMs });
      if (count === 0) continue;
      if (reference.kind === "tag") {
        const { tag } = reference;
        waiting.tag(`${repositoryId} ${tag}`, { repositoryId, tag, digest, count, lastMs });
      }
      if (!isKept) this.#lost += count;
      this.#addAction(repositoryId, lastMs, count);
    }
    this.#fresh = [];
    this.#freshOf = new WeakMap();
  }

  #addAction(repositoryId: number, nowMs: number, count: number): void {
    const day = Math.floor(nowMs / DAY_MS);
    this.#waiting.action(`${repositoryId} ${day}`, { repositoryId, day, count });
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#stopped) return;
    this.#timer = setTimeout(() => void this.flush(), FLUSH_MS);
    // Counting keeps nobody from ending.
    this.#timer.unref?.();
  }

  async #writeAll(): Promise<void> {
    const { db, log } = this.#options;
    this.#sort();
    const batch = this.#waiting;
    if (batch.size === 0) return;
    this.#waiting = new Waiting();
    if (this.#lost > 0)
      log.warn("pulls of too many different images at once: some were not counted", { lost: this.#lost });
    this.#lost = 0;
    // In one order everywhere, so that instances that write the same rows wait for each other and do not lock up.
    const writes = [
      ...sorted(batch.manifests).map((entry) => ({ ...entry, write: (tx: Tx) => addManifest(tx, entry.value) })),
      ...sorted(batch.tags).map((entry) => ({ ...entry, write: (tx: Tx) => addTag(tx, entry.value) })),
      ...sorted(batch.actions).map((entry) => ({ ...entry, write: (tx: Tx) => addAction(tx, entry.value) })),
    ];
    for (let start = 0; start < writes.length; start += ROWS_MAX) {
      const part = writes.slice(start, start + ROWS_MAX);
      try {
        await db.tx(
          async (tx) => {
            for (const { write } of part) await write(tx);
          },
          { durable: false },
        );
        for (const { map, key } of part) map.delete(key);
      } catch (error) {
        log.warn("cannot write the numbers of pulls; they are kept for later", errorFields(error));
        break;
      }
    }
    if (batch.size > 0) this.#takeBack(batch);
  }

  #takeBack(batch: Waiting): void {
    for (const [key, value] of batch.manifests) this.#waiting.manifest(key, value);
    for (const [key, value] of batch.tags) this.#waiting.tag(key, value);
    for (const [key, value] of batch.actions) this.#waiting.action(key, value);
    this.#schedule();
  }
}

function sorted<T>(map: Map<string, T>): { map: Map<string, unknown>; key: string; value: T }[] {
  const keys = [...map.keys()].sort();
  return keys.map((key) => ({ map, key, value: map.get(key) as T }));
}

/** A repository that was deleted meanwhile gets no row, which its removal would stumble over: the select finds none. */
async function addTag(tx: Tx, add: TagCount): Promise<void> {
  await tx.sql`/* pullstats.tag */
    insert into tag_pull (repository_id, tag_name, pull_count, last_pull_ms, last_manifest_digest)
    select id, cast(${add.tag} as text), cast(${add.count} as bigint), cast(${add.lastMs} as bigint),
           cast(${add.digest} as text)
    from repository where id = ${add.repositoryId} and deleted_ms is null
    on conflict (repository_id, tag_name) do update set
      pull_count = tag_pull.pull_count + excluded.pull_count,
      last_manifest_digest = case when excluded.last_pull_ms >= tag_pull.last_pull_ms
        then excluded.last_manifest_digest else tag_pull.last_manifest_digest end,
      last_pull_ms = case when excluded.last_pull_ms >= tag_pull.last_pull_ms
        then excluded.last_pull_ms else tag_pull.last_pull_ms end`;
}

async function addManifest(tx: Tx, add: ManifestCount): Promise<void> {
  await tx.sql`/* pullstats.manifest */
    insert into manifest_pull (repository_id, manifest_digest, pull_count, last_pull_ms, last_asked_ms)
    select id, cast(${add.digest} as text), cast(${add.count} as bigint), cast(${add.lastMs} as bigint),
           cast(${add.askedMs} as bigint)
    from repository where id = ${add.repositoryId} and deleted_ms is null
    on conflict (repository_id, manifest_digest) do update set
      pull_count = manifest_pull.pull_count + excluded.pull_count,
      last_pull_ms = case when excluded.last_pull_ms >= manifest_pull.last_pull_ms
        then excluded.last_pull_ms else manifest_pull.last_pull_ms end,
      last_asked_ms = case when excluded.last_asked_ms >= manifest_pull.last_asked_ms
        then excluded.last_asked_ms else manifest_pull.last_asked_ms end`;
}

async function addAction(tx: Tx, add: ActionCount): Promise<void> {
  await tx.sql`/* pullstats.action */
    insert into repository_action_count (repository_id, day, action_count)
    select id, cast(${add.day} as integer), cast(${add.count} as bigint)
    from repository where id = ${add.repositoryId} and deleted_ms is null
    on conflict (repository_id, day) do update set
      action_count = repository_action_count.action_count + excluded.action_count`;
}

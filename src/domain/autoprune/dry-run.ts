/**
 * What auto-prune policies would end now, and the bytes that would come back, without changing anything. It asks the same
 * questions as the pruning worker, in the same order, within bounds; an answer that met one of them says so.
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { databaseNowMs } from "../../db/now.ts";
import { Allowance } from "../../lib/allowance.ts";
import type { Digest } from "../../oci/digest.ts";
import { freedByTags } from "../gc/freed.ts";
import { loadImmutabilityRules } from "../immutability/rules.ts";
import type { PolicyScope } from "../policy/scope.ts";
import { findLastPulls } from "../pullstats/last-pulls.ts";
import type { CurrentTag } from "../tag/queries.ts";
import { type PrunableTag, prunableTags, TAGS_AT_ONCE } from "./candidates.ts";
import { listRulesFor, type RuleInForce } from "./policy.ts";

type DryRunApp = Pick<App, "config" | "db">;

/** Tags on one page. */
export const DRY_RUN_PAGE_MAX = 1_000;
/** Tags that are counted, and whose bytes are. */
const COUNTED_MAX = 10_000;
/** Rows of repositories and tags that one answer reads: some seconds of questions. */
const LOOKED_MAX = 300_000;
/** The same of what their manifests and blobs hang together with. */
const FREED_LOOKED_MAX = 300_000;
const REPOSITORIES_AT_ONCE = 100;

/** The last tag of a page; without the tag's fields all of its repository. */
export interface DryRunPosition {
  readonly repository: string;
  readonly tag?: { readonly place: number; readonly startMs: number; readonly id: number } | undefined;
}

export interface DryRunInput {
  readonly scope: PolicyScope;
  /** To be tried alone; undefined: those in force in each repository, its own, its namespace's, or the config's. */
  readonly rule: RuleInForce | undefined;
  readonly limit: number;
  readonly after: DryRunPosition | undefined;
}

export interface DoomedTag {
  readonly repository: string;
  readonly name: string;
  readonly digest: Digest;
  /** Whose doing it would be. */
  readonly rule: RuleInForce;
  readonly startMs: number;
  /** By any reference to its image; undefined: never. */
  readonly lastPullMs: number | undefined;
}

export interface DryRun {
  readonly tags: readonly DoomedTag[];
  readonly next: DryRunPosition | undefined;
  /** On the first page: of all pages together. */
  readonly totals:
    | { readonly tags: number; readonly namespaceBytes: number; readonly registryBytes: number }
    | undefined;
  /** False: a bound was met, and there may be more tags and bytes than are told. */
  readonly isComplete: boolean;
}

/** Reads as much as its bounds let it; the totals of a first page take up to some seconds. */
export async function dryRunPolicies(app: DryRunApp, input: DryRunInput): Promise<DryRun> {
  const { scope, limit, after } = input;
  const nowMs = await databaseNowMs(app.db);
  const scan = new Scan(app, input, nowMs);
  const listed: Found[] = [];
  const counted: PrunableTag[] = [];
  for await (const found of scan.found()) {
    counted.push(found.tag);
    if (listed.length <= limit) listed.push(found);
    // Only the first page tells of all.
    if (counted.length === COUNTED_MAX || (after && listed.length > limit)) break;
  }
  const shown = listed.slice(0, limit);
  const last = shown.at(-1);
  const allowance = new Allowance(FREED_LOOKED_MAX);
  const freed = after
    ? undefined
    : await freedByTags(app.db, counted, { namespaceId: scope.namespaceId, nowMs, allowance });
  return {
    tags: await describe(app.db, shown),
    next: last && listed.length > limit ? positionOf(last) : scan.stoppedAt,
    totals: freed && { tags: counted.length, ...freed },
    isComplete: !scan.stoppedAt && counted.length < COUNTED_MAX && !allowance.isSpent,
  };
}

interface Repository {
  readonly id: number;
  readonly name: string;
  readonly namespaceId: number;
}

interface Found {
  readonly repository: Repository;
  readonly rule: RuleInForce;
  /** The rule's place among those of the repository. */
  readonly place: number;
  readonly tag: PrunableTag;
}

/** Goes through the repositories of a scope by name, as far as the allowance goes. */
class Scan {
  /** Where the allowance ended; undefined when all was seen. */
  stoppedAt: DryRunPosition | undefined;
  readonly #app: DryRunApp;
  readonly #input: DryRunInput;
  readonly #nowMs: number;
  readonly #allowance = new Allowance(LOOKED_MAX);

  constructor(app: DryRunApp, input: DryRunInput, nowMs: number) {
    this.#app = app;
    this.#input = input;
    this.#nowMs = nowMs;
  }

  /** What would be ended behind the position: by repository, rule, and the newest first. */
  async *found(): AsyncGenerator<Found> {
    const { after } = this.#input;
    for await (const repository of this.#repositories()) {
      for await (const found of this.#foundIn(repository)) {
        if (!after || isBehind(found, after)) yield found;
      }
      if (!this.#allowance.isSpent) continue;
      this.stoppedAt = { repository: repository.name };
      return;
    }
  }

  async *#foundIn(repository: Repository): AsyncGenerator<Found> {
    const { config, db } = this.#app;
    const { rule: tried } = this.#input;
    const rules = tried ? [tried] : await listRulesFor(config, db, repository);
    const immutability = await loadImmutabilityRules(config, db, repository);
    await this.#allowance.spend(2);
    const ended = new Set<number>();
    const look = {
      nowMs: this.#nowMs,
      protects: (name: string, tag: CurrentTag) => immutability.isImmutable(name, tag),
      ended,
      allowance: this.#allowance,
    };
    for (const [place, rule] of rules.entries()) {
      for await (const tag of prunableTags(db, repository.id, rule, look)) {
        ended.add(tag.id);
        yield { repository, rule, place, tag };
      }
    }
  }

  /** Those that are pruned at all. */
  async *#repositories(): AsyncGenerator<Repository> {
    const { sql } = this.#app.db;
    const { scope, after } = this.#input;
    const only = scope.repository ? sql`and id = ${scope.repository.id}` : sql``;
    // The one in which a page ended is begun anew: which tags are kept depends on those before them.
    let behind = after?.repository ?? "";
    let includes = after?.tag !== undefined;
    for (;;) {
      const from = includes ? sql`name >= ${behind}` : sql`name > ${behind}`;
      const rows = await sql<{ id: number; name: string }>`/* prune.try_repositories */
        select id, name from repository
        where namespace_id = ${scope.namespaceId} and ${from} ${only} and deleted_ms is null and state = 'NORMAL'
        order by name limit ${REPOSITORIES_AT_ONCE}`;
      for (const { id, name } of rows) yield { id: toNumber(id), name, namespaceId: scope.namespaceId };
      const last = rows.at(-1);
      if (!last || rows.length < REPOSITORIES_AT_ONCE) return;
      behind = last.name;
      includes = false;
    }
  }
}

function positionOf({ repository, place, tag }: Found): DryRunPosition {
  return { repository: repository.name, tag: { place, startMs: tag.startMs, id: tag.id } };
}

function isBehind({ repository, place, tag }: Found, { repository: name, tag: last }: DryRunPosition): boolean {
  if (!last || repository.name !== name || place > last.place) return true;
  if (place < last.place) return false;
  return tag.startMs < last.startMs || (tag.startMs === last.startMs && tag.id < last.id);
}

async function describe(db: Db, all: readonly Found[]): Promise<DoomedTag[]> {
  const described: DoomedTag[] = [];
  for (const found of Map.groupBy(all, ({ repository }) => repository.id).values()) {
    for (let at = 0; at < found.length; at += TAGS_AT_ONCE) {
      described.push(...(await describeIn(db, found.slice(at, at + TAGS_AT_ONCE))));
    }
  }
  return described;
}

/** Tags of one repository. */
async function describeIn(db: Db, found: readonly Found[]): Promise<DoomedTag[]> {
  const pulls = await findLastPulls(
    db,
    found[0]?.repository.id ?? 0,
    found.map(({ tag }) => tag),
  );
  const rows = await db.sql<{ id: number; digest: string }>`/* prune.digests */
    select id, digest from manifest where ${db.dialect.inList(
      "id",
      found.map(({ tag }) => tag.manifestId),
    )}`;
  const digests = new Map(rows.map((row) => [toNumber(row.id), row.digest as Digest]));
  return found.flatMap(({ repository, rule, tag }) => {
    const digest = digests.get(tag.manifestId);
    // Gone since it was found.
    if (!digest) return [];
    const { name, startMs } = tag;
    return { repository: repository.name, name, digest, rule, startMs, lastPullMs: pulls.get(tag.id) };
  });
}

/**
 * The caches on the pull path: repository facts, roles, accounts, manifests by reference and blobs by digest. All are
 * bounded, all are dropped by the writer at commit through `Database.onChanged`, and all are off while changes of other
 * instances may go unheard. A warm pull asks the database nothing, and outlives it for a while.
 */

import type { Config } from "../../config/schema.ts";
import type { Database } from "../../db/db.ts";
import type { Clock } from "../../lib/clock.ts";
import { Lru } from "../../lib/lru.ts";
import type { Digest } from "../../oci/digest.ts";
import type { RepositoryPath } from "../../oci/names.ts";
import { formatReference, type Reference } from "../../oci/reference.ts";
import type { Caller, Principal } from "../access/actor.ts";
import { findRepositoryFacts, findRole, type RepositoryFacts, type Role } from "../access/facts.ts";
import { type BlobFacts, findBlobFacts } from "../blob/queries.ts";
import { type CredentialFacts, credentialKey, findCredential } from "../credential/credential.ts";
import { findManifestByReference, type StoredManifest } from "../manifest/queries.ts";
import { type Account, EVERYTHING, findAccountById, toPrincipal } from "../user/account.ts";
import { FAILED_LOGIN } from "../user/failed-names.ts";

/** Bounds: enough for a busy site's working set, a few tens of MB at the most. Manifests count their bytes. */
const REPOSITORIES_MAX = 10_000;
const ROLES_MAX = 50_000;
const ACCOUNTS_MAX = 10_000;
const CREDENTIALS_MAX = 20_000;
const BLOBS_MAX = 50_000;
/** Blobs of which a new place was heard; one that falls out is read from where it was, for as long as TTL_MS. */
const PLACED_MAX = 50_000;
const MANIFESTS_MAX_BYTES = 32 * 1024 * 1024;
const MANIFEST_OVERHEAD_BYTES = 500;
/** The backstop: nothing mutable is believed longer than this, whatever was or was not heard. */
const TTL_MS = 60_000;

/** Repositories remembered for one token: it names a few at most. */
const PULLABLE_MAX = 64;

/** Something worked out from cached facts: good until the next change of anything, and for TTL_MS at the most. */
export interface Settled<T> {
  readonly value: T;
  readonly version: number;
  readonly untilMs: number;
}

interface Cached<T> {
  readonly value: T;
  readonly untilMs: number;
}

export interface LookupOptions {
  db: Database;
  config: Config;
  clock: Clock;
  onAnswer?: (type: "hit" | "miss") => void;
}

/** Cache key of everything about one repository: its row, roles on it, its manifests and blobs. */
export function repositoryKey(repositoryId: number): string {
  return `repo:${repositoryId}`;
}

/** Cache key of one reference (tag or digest) in a repository. */
export function referenceKey(repositoryId: number, reference: string): string {
  return `ref:${repositoryId}:${reference}`;
}

/** Cache key of where one blob lies. Nothing but the order of reading follows from it. */
export function placementKey(digest: Digest): string {
  return `placed:${digest}`;
}

export class Lookup {
  readonly #options: LookupOptions;
  readonly #repositories = new Lru<string, Cached<RepositoryFacts>>(REPOSITORIES_MAX);
  readonly #paths = new Lru<string, string>(REPOSITORIES_MAX);
  readonly #roles = new Lru<string, Cached<Role>>(ROLES_MAX);
  readonly #accounts = new Lru<string, Cached<Account>>(ACCOUNTS_MAX);
  readonly #credentials = new Lru<string, Cached<CredentialFacts>>(CREDENTIALS_MAX);
  /** Follows from the account's row and the config alone. */
  readonly #principals = new WeakMap<Account, Principal>();
  readonly #manifests = new Lru<string, Cached<StoredManifest>>(MANIFESTS_MAX_BYTES);
  readonly #blobs = new Lru<string, Cached<BlobFacts>>(BLOBS_MAX);
  /** Part of the key of a blob that got a new place: how many places were heard of when it did. */
  readonly #placed = new Lru<string, number>(PLACED_MAX);
  #placements = 0;
  /** Goes up with each change heard: an answer loaded before is not kept after. */
  #changes = 0;
  /** Repositories that a caller with a registry token may pull, as long as nothing changes. */
  readonly #pullable = new WeakMap<Caller, Settled<Map<RepositoryPath, RepositoryFacts>>>();
  /** Part of the keys below a repository, so that dropping all of them is forgetting one number. */
  readonly #generations = new Lru<number, number>(REPOSITORIES_MAX);
  #nextGeneration = 1;

  constructor(options: LookupOptions) {
    this.#options = options;
    options.db.onChanged((keys) => this.#drop(keys));
  }

  /** What was worked out, if nothing has changed since and changes are heard. */
  unchanged<T>(settled: Settled<T> | undefined, nowMs: number): T | undefined {
    const { db } = this.#options;
    if (!settled || settled.version !== this.#changes || settled.untilMs <= nowMs || !db.hearsChanges) return undefined;
    return settled.value;
  }

  /** Goes up with each change that is heard: read it before what is to be settled. */
  get version(): number {
    return this.#changes;
  }

  /** Remembers what was worked out from facts that were read at `version`. */
  settle<T>(value: T, version: number, nowMs: number): Settled<T> {
    return { value, version, untilMs: nowMs + TTL_MS };
  }

  /** A repository that the caller was found to be allowed to pull. */
  pullable(caller: Caller, path: RepositoryPath): RepositoryFacts | undefined {
    return this.unchanged(this.#pullable.get(caller), this.#options.clock.nowMs())?.get(path);
  }

  /** Remembers that the caller may pull, as was decided from facts read at `version`. */
  keepPullable(caller: Caller, repository: RepositoryFacts, version: number): void {
    if (version !== this.#changes) return;
    const nowMs = this.#options.clock.nowMs();
    const known = this.unchanged(this.#pullable.get(caller), nowMs);
    if (known && known.size < PULLABLE_MAX) known.set(repository.path, repository);
    else this.#pullable.set(caller, this.settle(new Map([[repository.path, repository]]), version, nowMs));
  }

  repository(path: RepositoryPath): Promise<RepositoryFacts | undefined> {
    return this.#through(this.#repositories, path, async (keep) => {
      const facts = await findRepositoryFacts(this.#options.db, path);
      if (facts) keep(facts, () => this.#paths.set(repositoryKey(facts.id), path));
      return facts;
    });
  }

  /** "none" for anonymous. */
  async role(principal: Principal | undefined, repository: RepositoryFacts): Promise<Role> {
    if (!principal) return "none";
    const key = `${this.#generation(repository.id)}:${principal.accountId}`;
    const role = await this.#through(this.#roles, key, async (keep) => {
      const found = await findRole(this.#options.db, principal, repository);
      keep(found);
      return found;
    });
    return role ?? "none";
  }

  account(accountId: number): Promise<Account | undefined> {
    return this.#through(this.#accounts, `account:${accountId}`, async (keep) => {
      const account = await findAccountById(this.#options.db, accountId);
      if (account) keep(account);
      return account;
    });
  }

  /** A credential by its id (`credentialId`), undefined when it was taken back. Its expiry is the caller's to compare. */
  credential(id: string): Promise<CredentialFacts | undefined> {
    return this.#through(this.#credentials, credentialKey(id), async (keep) => {
      const facts = await findCredential(this.#options.db, id);
      if (facts) keep(facts);
      return facts;
    });
  }

  /** The account as it may act now; undefined when it is gone or disabled. */
  async principal(accountId: number): Promise<Principal | undefined> {
    const account = await this.account(accountId);
    if (!account) return undefined;
    let principal = this.#principals.get(account);
    if (!principal) {
      principal = toPrincipal(this.#options.config, account);
      if (principal) this.#principals.set(account, principal);
    }
    return principal;
  }

  /** The manifest a reference names now; undefined when there is none or its tag has expired. */
  async manifest(repositoryId: number, reference: Reference): Promise<StoredManifest | undefined> {
    const nowMs = this.#options.clock.nowMs();
    const text = formatReference(reference);
    const key = `${this.#generation(repositoryId)}:${text}`;
    const found = await this.#through(this.#manifests, key, async (keep) => {
      const manifest = await findManifestByReference(this.#options.db, repositoryId, reference, nowMs);
      if (manifest) keep(manifest, undefined, manifest.content.length + MANIFEST_OVERHEAD_BYTES);
      return manifest;
    });
    return found?.expiresMs !== undefined && found.expiresMs <= nowMs ? undefined : found;
  }

  blob(repositoryId: number, digest: Digest): Promise<BlobFacts | undefined> {
    const placed = this.#placements === 0 ? undefined : this.#placed.get(digest);
    const suffix = placed === undefined ? "" : `:${placed}`;
    return this.#through(this.#blobs, `${this.#generation(repositoryId)}:${digest}${suffix}`, async (keep) => {
      const blob = await findBlobFacts(this.#options.db, repositoryId, digest);
      if (blob) keep(blob);
      return blob;
    });
  }

  async #through<T>(
    cache: Lru<string, Cached<T>>,
    key: string,
    load: (keep: (value: T, onKept?: () => void, weight?: number) => void) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const { db, clock, onAnswer } = this.#options;
    const cached = db.hearsChanges ? cache.get(key) : undefined;
    if (cached && cached.untilMs > clock.nowMs()) {
      onAnswer?.("hit");
      return cached.value;
    }
    const kept = this.#keptThroughOutage(cache, key);
    if (kept) return kept.value;
    onAnswer?.("miss");
    const before = this.#changes;
    const keep = (value: T, onKept?: () => void, weight = 1): void => {
      // What changed while it was being read may be missing from it.
      if (before !== this.#changes) return;
      cache.set(key, { value, untilMs: clock.nowMs() + TTL_MS }, weight);
      onKept?.();
    };
    try {
      return await load(keep);
    } catch (error) {
      // The first to ask after the database went away find it out.
      const known = this.#keptThroughOutage(cache, key);
      if (known) return known.value;
      throw error;
    }
  }

  /**
   * What was good when the database was last heard, while nobody reaches it and for DB_OUTAGE_PULL_SECONDS at the most: a
   * database that is away has taken no revocation.
   */
  #keptThroughOutage<T>(cache: Lru<string, Cached<T>>, key: string): Cached<T> | undefined {
    const { db, config, clock, onAnswer } = this.#options;
    const { silentForMs } = db;
    if (silentForMs === undefined || silentForMs > config.DB_OUTAGE_PULL_SECONDS * 1000) return undefined;
    const cached = cache.get(key);
    if (!cached || cached.untilMs <= clock.nowMs() - silentForMs) return undefined;
    onAnswer?.("hit");
    return cached;
  }

  #generation(repositoryId: number): number {
    const known = this.#generations.get(repositoryId);
    if (known !== undefined) return known;
    const generation = this.#nextGeneration++;
    this.#generations.set(repositoryId, generation);
    return generation;
  }

  #drop(all: readonly string[] | undefined): void {
    // Whoever guesses passwords must not unsettle anything by it.
    const keys = all?.filter((key) => !key.startsWith(FAILED_LOGIN));
    if (keys?.length === 0) return;
    // Replication names thousands of these: they must not unsettle what was decided about anything else.
    if (keys?.every((key) => key.startsWith("placed:"))) {
      for (const key of keys) this.#placed.set(key.slice("placed:".length), ++this.#placements);
      return;
    }
    this.#changes++;
    if (keys === undefined || keys.includes(EVERYTHING)) this.#dropAll();
    for (const key of keys ?? []) {
      const [kind, id = "", ...rest] = key.split(":");
      if (kind === "repo") this.#dropRepository(Number(id), key);
      else if (kind === "ref") this.#manifests.delete(`${this.#generation(Number(id))}:${rest.join(":")}`);
      else if (kind === "account") this.#accounts.delete(key);
      else if (kind === "credential") this.#credentials.delete(key);
      else if (kind === "placed") this.#placed.set(key.slice("placed:".length), ++this.#placements);
    }
  }

  #dropRepository(repositoryId: number, key: string): void {
    this.#generations.delete(repositoryId);
    const path = this.#paths.get(key);
    if (path === undefined) return;
    this.#repositories.delete(path);
    this.#paths.delete(key);
  }

  #dropAll(): void {
    this.#repositories.clear();
    this.#paths.clear();
    this.#roles.clear();
    this.#accounts.clear();
    this.#credentials.clear();
    this.#manifests.clear();
    this.#blobs.clear();
    this.#generations.clear();
  }
}

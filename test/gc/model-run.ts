/**
 * Random pushes, deletions, restores, mounts, policies and jumps of the clock against a real registry and the model beside
 * it. After each collection both must hold the same manifests, links and blobs, and the store the same files; and whenever it
 * is asked, what is counted for quotas must be what the model adds up.
 */

import { pruneNext } from "../../src/domain/autoprune/prune.ts";
import { isAnythingDue } from "../../src/domain/gc/round.ts";
import { backfill } from "../../src/domain/quota/backfill.ts";
import { noteNamespaces } from "../../src/domain/quota/due.ts";
import { findDrift } from "../../src/domain/quota/reconcile.ts";
import { QuotaTally } from "../../src/domain/quota/tally.ts";
import type { ApiClient } from "../api/harness.ts";
import { makeRandom, type Random } from "../storage/random.ts";
import { mediaTypes } from "../support/registry-client.ts";
import { type ModelManifest, type ModelPolicy, ModelRepository } from "./model.ts";
import { bytesOf, compare, digestOf, expectStatus, imageOf, type Manifest } from "./model-parts.ts";
import { dayMs, type GcWorld, startGcWorld } from "./world.ts";

const HOUR_MS = 3600 * 1000;
const LEASE_MS = HOUR_MS;
const MINUTE_MS = 60_000;
const REPOSITORIES = ["admin/one", "admin/two", "admin/three"] as const;
const TAGS = ["a", "b", "c", "d"] as const;
/** A collection takes no longer, on a slow machine. */
const NEAR_MS = 30_000;
/** What these tests do themselves, and the server does not. */
const COLLECTS = {
  FEATURE_GARBAGE_COLLECTION: true,
  FEATURE_REPOSITORY_GARBAGE_COLLECTION: true,
  FEATURE_NAMESPACE_GARBAGE_COLLECTION: true,
  FEATURE_AUTO_PRUNE: false,
} as const;
/** How a policy's age is written, and what it is. */
const AGES = { "2h": 2 * HOUR_MS, "1d": dayMs, "5d": 5 * dayMs } as const;
const WINDOWS_S = [0, 86_400, 14 * 86_400] as const;

/** A repository that was deleted and can be restored until its window is over. */
interface Deleted {
  /** How it is found again; its path, too, as long as it is deleted. */
  readonly uuid: string;
  readonly path: string;
  readonly model: ModelRepository;
  readonly deletedMs: number;
}

export interface ModelReport {
  readonly steps: number;
  readonly collections: number;
  /** Blobs that were deleted from the store. */
  readonly blobs: number;
  /** Repositories that were deleted and brought back. */
  readonly restored: number;
}

export async function runModel(steps: number, collectors: number): Promise<ModelReport> {
  const world = await startGcWorld({
    DEFAULT_TAG_EXPIRATION: "1d",
    TAG_EXPIRATION_OPTIONS: ["0s", "1d", "2w"],
    PUSH_TEMP_TAG_EXPIRATION_SEC: LEASE_MS / 1000,
    FEATURE_QUOTA_MANAGEMENT: true,
    // The policies are there, and the server itself never gets to them.
    GARBAGE_COLLECTION_FREQUENCY: 1_000_000,
    FEATURE_AUTO_PRUNE: true,
  });
  try {
    return await new ModelRun(world, collectors).run(steps);
  } finally {
    await world.stop();
  }
}

class ModelRun {
  readonly #world: GcWorld;
  readonly #collectors: number;
  readonly #random: Random = makeRandom("model of garbage collection");
  readonly #contents: Uint8Array[];
  #client: ApiClient | undefined;
  #signedInMs = 0;
  readonly #sizes = new Map<string, number>();
  #model = new Map<string, ModelRepository>();
  #trash: Deleted[] = [];
  /** Gone for good, and not collected yet. */
  #doomed: Deleted[] = [];
  #restored = 0;
  #windowS: number = WINDOWS_S[1];
  #passedMs = 0;
  #collections = 0;
  #deleted = 0;

  constructor(world: GcWorld, collectors: number) {
    this.#world = world;
    this.#collectors = collectors;
    this.#contents = Array.from({ length: 14 }, (_, n) => bytesOf({ layer: n }));
  }

  async run(steps: number): Promise<ModelReport> {
    const { random } = { random: this.#random };
    const actions: [number, () => Promise<void>][] = [
      [22, () => this.#pushImage(true)],
      [6, () => this.#pushImage(false)],
      [8, () => this.#pushIndex()],
      [6, () => this.#pushReferrer()],
      [14, () => this.#deleteTag()],
      [6, () => this.#deleteManifest()],
      [8, () => this.#restore()],
      [5, () => this.#mount()],
      [4, () => this.#deleteBlob()],
      [3, () => this.#deleteRepository()],
      [4, () => this.#restoreRepository()],
      [1, () => this.#purgeRepository()],
      [2, () => this.#changeWindow()],
      [2, () => this.#changePolicy()],
      [3, () => this.#compareUsage()],
      [10, () => this.#pass()],
      [5, () => this.#collect()],
    ];
    const total = actions.reduce((sum, [weight]) => sum + weight, 0);
    for (let step = 0; step < steps; step++) {
      if (step > 0 && step % 10_000 === 0) console.log(`model: ${step} steps`);
      let at = random.integer(0, total - 1);
      for (const [weight, action] of actions) {
        at -= weight;
        if (at >= 0) continue;
        await action();
        break;
      }
    }
    await this.#collect();
    return { steps, collections: this.#collections, blobs: this.#deleted, restored: this.#restored };
  }

  async #su(): Promise<ApiClient> {
    // A session is fresh for some minutes only.
    if (!this.#client || performance.now() - this.#signedInMs > 60_000) {
      this.#client = await this.#world.api.as("admin");
      this.#signedInMs = performance.now();
    }
    return this.#client;
  }

  get #nowMs(): number {
    return Date.now() + this.#passedMs;
  }

  #pick<T>(all: readonly T[]): T | undefined {
    return all.length === 0 ? undefined : all[this.#random.integer(0, all.length - 1)];
  }

  #repository(): { path: string; model: ModelRepository } {
    const path = this.#pick(REPOSITORIES) ?? "";
    let model = this.#model.get(path);
    if (!model) {
      model = new ModelRepository();
      this.#model.set(path, model);
    }
    return { path, model };
  }

  async #pushBlob(path: string, model: ModelRepository, content: Uint8Array): Promise<string> {
    const shape = this.#pick(["post-put", "patch", "single-post"] as const) ?? "post-put";
    await expectStatus(await this.#world.api.admin.pushBlob(path, content, { shape }), 201, "blob");
    this.#sizes.set(digestOf(content), content.length);
    model.link(digestOf(content), this.#nowMs + LEASE_MS);
    return digestOf(content);
  }

  async #put(path: string, model: ModelRepository, manifest: Manifest, tag: string | undefined): Promise<void> {
    const bytes = bytesOf(manifest.body);
    const response = await this.#world.api.admin.pushManifest(path, tag ?? digestOf(bytes), bytes, manifest.mediaType);
    await expectStatus(response, 201, "manifest");
    model.put({ ...manifest, digest: digestOf(bytes) }, tag, this.#nowMs, this.#nowMs + LEASE_MS);
  }

  async #pushImage(isTagged: boolean): Promise<void> {
    const { path, model } = this.#repository();
    const config = bytesOf({ config: this.#random.integer(0, 5) });
    const contents = Array.from({ length: this.#random.integer(0, 3) }, () => this.#pick(this.#contents)).flatMap(
      (content) => content ?? [],
    );
    for (const content of [config, ...contents]) await this.#pushBlob(path, model, content);
    await this.#put(path, model, imageOf(config, contents), isTagged ? this.#pick(TAGS) : undefined);
  }

  async #pushIndex(): Promise<void> {
    const { path, model } = this.#repository();
    const children = [this.#living(model), this.#living(model)].flatMap((child) => child ?? []);
    if (children.length === 0) return;
    const descriptors = children.map(({ digest }) => ({ mediaType: mediaTypes.manifest, size: 100, digest }));
    const manifest: Manifest = {
      mediaType: mediaTypes.index,
      body: { schemaVersion: 2, mediaType: mediaTypes.index, manifests: descriptors },
      blobs: [],
      children: children.map(({ digest }) => digest),
      subject: undefined,
    };
    await this.#put(path, model, manifest, this.#random.integer(0, 2) > 0 ? this.#pick(TAGS) : undefined);
  }

  async #pushReferrer(): Promise<void> {
    const { path, model } = this.#repository();
    const subject = this.#pick([...model.manifests.keys()]);
    if (!subject) return;
    const config = bytesOf({ signature: this.#random.integer(0, 3) });
    await this.#pushBlob(path, model, config);
    const manifest = imageOf(config, []);
    const body = { ...manifest.body, subject: { mediaType: mediaTypes.manifest, size: 100, digest: subject } };
    await this.#put(path, model, { ...manifest, body, subject }, undefined);
  }

  #living(model: ModelRepository): ModelManifest | undefined {
    return this.#pick([...model.manifests.values()].filter(({ deletedMs }) => deletedMs === undefined));
  }

  async #delete(path: string, reference: string): Promise<void> {
    const response = await this.#world.api.admin.request(`/v2/${path}/manifests/${reference}`, {
      method: "DELETE",
      scope: `repository:${path}:delete`,
    });
    await expectStatus(response, 202, `delete of ${reference}`);
  }

  async #deleteTag(): Promise<void> {
    const { path, model } = this.#repository();
    const current = this.#pick(TAGS.flatMap((tag) => model.current(tag) ?? []));
    if (!current) return;
    await this.#delete(path, current.name);
    current.endMs = this.#nowMs;
  }

  async #deleteManifest(): Promise<void> {
    const { path, model } = this.#repository();
    const manifest = this.#living(model);
    if (!manifest) return;
    await this.#delete(path, manifest.digest);
    model.deleteManifest(manifest.digest, this.#nowMs);
  }

  async #restore(): Promise<void> {
    const { path, model } = this.#repository();
    const [digest, tag] = [this.#pick([...model.manifests.keys()]), this.#pick(TAGS)];
    if (!digest || !tag) return;
    const su = await this.#su();
    const answer = await su.post(`/repository/${path}/tag/${tag}/restore`, { manifest_digest: digest });
    if (answer.status !== 200) throw new Error(`restoring ${tag} to ${digest}: ${answer.status} ${answer.text}`);
    model.restore(tag, digest, this.#nowMs, this.#nowMs + LEASE_MS);
  }

  async #mount(): Promise<void> {
    const [from, to] = [this.#repository(), this.#repository()];
    const blob = this.#pick([...from.model.links].flatMap(([digest, link]) => (link.isHidden ? [] : [digest])));
    if (!blob || from.path === to.path) return;
    const response = await this.#world.api.admin.request(
      `/v2/${to.path}/blobs/uploads/?mount=${blob}&from=${from.path}`,
      { method: "POST", scope: `repository:${to.path}:pull,push repository:${from.path}:pull` },
    );
    await expectStatus(response, 201, "mount");
    to.model.link(blob, this.#nowMs + LEASE_MS);
  }

  async #deleteBlob(): Promise<void> {
    const { path, model } = this.#repository();
    const blob = this.#pick([...model.links.keys()]);
    if (!blob || !model.mayDeleteBlob(blob)) return;
    const response = await this.#world.api.admin.request(`/v2/${path}/blobs/${blob}`, {
      method: "DELETE",
      scope: `repository:${path}:delete`,
    });
    await expectStatus(response, 202, "delete of a blob");
    model.deleteBlob(blob, this.#nowMs);
  }

  async #deleteRepository(): Promise<void> {
    const { path, model } = this.#repository();
    if (model.links.size === 0 && model.manifests.size === 0) return;
    const { db } = this.#world.api.app;
    const [row] = await db.sql<{ id: number }>`/* test.id */ select id from repository where path = ${path}`;
    const su = await this.#su();
    const answer = await su.delete(`/repository/${path}`);
    if (answer.status !== 204) throw new Error(`deleting ${path}: ${answer.status} ${answer.text}`);
    this.#model.delete(path);
    const [retired] = await db.sql<{ path: string }>`/* test.uuid */
      select path from repository where id = ${Number(row?.id)}`;
    const deleted: Deleted = { uuid: retired?.path ?? "", path, model, deletedMs: this.#nowMs };
    // Without a window it is gone for good, which the next collection shows.
    if (this.#windowS === 0) {
      this.#doomed.push(deleted);
      return;
    }
    const [latest] = (await su.get("/user/deleted?limit=1")).body.repositories;
    if (`admin/${latest?.name}` !== path) throw new Error(`${path} was deleted, and cannot be restored`);
    if (latest.uuid !== deleted.uuid) throw new Error(`${path} was deleted as ${deleted.uuid}, not ${latest.uuid}`);
    this.#trash.push(deleted);
  }

  async #restoreRepository(): Promise<void> {
    const deleted = this.#pick(this.#trash);
    if (!deleted) return;
    const su = await this.#su();
    const isTaken = async (path: string) => (await su.get(`/repository/${path}`)).status === 200;
    const wanted = (await isTaken(deleted.path)) ? undefined : deleted.path;
    if (wanted === undefined) {
      const refused = await su.post(`/user/deleted/${deleted.uuid}/restore`, {});
      if (refused.status !== 400) throw new Error(`restoring over ${deleted.path}: ${refused.status} ${refused.text}`);
    }
    for (const path of wanted === undefined ? REPOSITORIES : [wanted]) {
      if (await isTaken(path)) continue;
      const answer = await su.post(`/user/deleted/${deleted.uuid}/restore`, { name: path.slice("admin/".length) });
      if (answer.status !== 200) throw new Error(`restoring ${path}: ${answer.status} ${answer.text}`);
      this.#trash = this.#trash.filter((one) => one !== deleted);
      this.#model.set(path, deleted.model);
      this.#restored++;
      return;
    }
  }

  /** Given up before its time. */
  async #purgeRepository(): Promise<void> {
    const deleted = this.#pick(this.#trash);
    if (!deleted) return;
    const answer = await (await this.#su()).delete(`/user/deleted/${deleted.uuid}`);
    if (answer.status !== 204) throw new Error(`purging ${deleted.path}: ${answer.status} ${answer.text}`);
    this.#trash = this.#trash.filter((one) => one !== deleted);
    this.#doomed.push(deleted);
  }

  async #changeWindow(): Promise<void> {
    const seconds = this.#pick(WINDOWS_S) ?? 0;
    const su = await this.#su();
    const answer = await su.put("/user/", { tag_expiration_s: seconds });
    if (answer.status !== 200) throw new Error(`the window: ${answer.status} ${answer.text}`);
    this.#windowS = seconds;
  }

  /** Takes the repository's policy away, or gives it one. */
  async #changePolicy(): Promise<void> {
    const { path, model } = this.#repository();
    if (model.manifests.size === 0) return;
    const su = await this.#su();
    const at = `/repository/${path}/autoprunepolicy/`;
    if (model.policy) {
      const answer = await su.delete(`${at}${model.policy.uuid}`);
      if (answer.status !== 200) throw new Error(`no policy for ${path}: ${answer.status} ${answer.text}`);
      model.policy = undefined;
      return;
    }
    const age = this.#pick(Object.keys(AGES) as (keyof typeof AGES)[]) ?? "1d";
    const policy: Omit<ModelPolicy, "uuid"> = {
      method: this.#pick(["number_of_tags", "creation_date"] as const) ?? "number_of_tags",
      keep: this.#random.integer(1, 3),
      ageMs: AGES[age],
      pattern: this.#pick([/^[ab]$/, /c/]) ?? /c/,
      matches: this.#random.integer(0, 1) === 1,
    };
    const { method, keep, pattern, matches } = policy;
    const answer = await su.post(at, {
      method,
      value: method === "number_of_tags" ? keep : age,
      tagPattern: pattern.source,
      tagPatternMatches: matches,
    });
    if (answer.status !== 201) throw new Error(`a policy for ${path}: ${answer.status} ${answer.text}`);
    model.policy = { ...policy, uuid: answer.body.uuid };
  }

  /** Every policy is looked at, as its next round would. */
  async #prune(): Promise<void> {
    const { app } = this.#world.api;
    await app.db.sql`/* test.due */ update prune_repository set due_ms = 0`;
    const pruner = async () => {
      while (await pruneNext(app));
    };
    await Promise.all(Array.from({ length: this.#collectors }, pruner));
    for (const model of this.#model.values()) model.prune(this.#nowMs);
  }

  /** Whatever is not collected yet counts, in repositories that are deleted as well. */
  async #compareUsage(): Promise<void> {
    const { app } = this.#world.api;
    const sum = (blobs: Iterable<string>) =>
      [...blobs].reduce((total, blob) => total + (this.#sizes.get(blob) ?? 0), 0);
    const rows = await app.db.sql<{ path: string; size_bytes: number }>`/* test.usage */
      select r.path, u.size_bytes from repository_usage u join repository r on r.id = u.repository_id
      where u.size_bytes > 0`;
    const [total] = await app.db.sql<{ size_bytes: number }>`/* test.total */
      select size_bytes from namespace_usage where size_bytes > 0`;
    const gone = [...this.#trash, ...this.#doomed].map(({ uuid, model }) => [uuid, model] as const);
    const repositories = [...this.#model, ...gone].map(([path, model]) => ({ path, named: model.named() }));
    compare(
      "bytes of repositories",
      rows.map((row) => `${row.path} ${row.size_bytes}`),
      repositories.flatMap(({ path, named }) => (named.size === 0 ? [] : [`${path} ${sum(named)}`])),
    );
    const all = new Set(repositories.flatMap(({ named }) => [...named]));
    compare("bytes of the namespace", [String(total?.size_bytes ?? 0)], [String(sum(all))]);
  }

  /** The kept figures are those of a full recount. */
  async #compareTotals(): Promise<void> {
    const { app } = this.#world.api;
    const { signal } = new AbortController();
    while (await noteNamespaces(app));
    await backfill(app, 100, new QuotaTally(), signal);
    const rows = await app.db.sql<{ id: number }>`/* test.namespaces */ select namespace_id as id from namespace_usage`;
    for (const { id } of rows) {
      const drift = await findDrift(app.db, Number(id), signal);
      if (drift) throw new Error(`the kept totals drifted: ${JSON.stringify(drift)}`);
    }
  }

  async #pass(): Promise<void> {
    const ms = (this.#pick([7 * MINUTE_MS, 50 * MINUTE_MS, 3 * HOUR_MS, 20 * HOUR_MS, 6 * dayMs]) ?? 0) + 12_345;
    await this.#world.pass(ms);
    this.#passedMs += ms;
  }

  /** True when something is over within the time that a collection may take: nobody could say on which side it falls. */
  #isNear(): boolean {
    const [nowMs, windowMs] = [this.#nowMs, this.#windowS * 1000];
    const gone = [...this.#trash.map(({ deletedMs }) => deletedMs + windowMs)];
    const all = [...this.#model.values(), ...this.#trash.map(({ model }) => model)];
    const ends = all.flatMap((model) => [...model.ends(windowMs)]);
    return [...gone, ...ends].some((ms) => Math.abs(ms - nowMs) < NEAR_MS);
  }

  async #collect(): Promise<void> {
    // A blob is left alone for its first minute.
    do {
      await this.#world.pass(2 * MINUTE_MS);
      this.#passedMs += 2 * MINUTE_MS;
    } while (this.#isNear());
    await this.#prune();
    const { db, config } = this.#world.api.app;
    const tallies = await Promise.all(Array.from({ length: this.#collectors }, () => this.#world.collect()));
    // What one collector left because another transaction had it: the other's, or one that writes down pulls.
    do tallies.push(await this.#world.collect());
    while (await isAnythingDue({ db, config: { ...config, ...COLLECTS } }));
    for (const tally of tallies) this.#deleted += tally.blobs;
    this.#collections++;
    this.#doomed = [];
    const windowMs = this.#windowS * 1000;
    this.#trash = this.#trash.filter(({ deletedMs }) => deletedMs + windowMs > this.#nowMs);
    // In what can be restored time goes on.
    for (const { model } of this.#trash) model.collect(this.#nowMs, windowMs);
    for (const model of this.#model.values()) model.collect(this.#nowMs, windowMs);
    await this.#compare();
    await this.#compareUsage();
    await this.#compareTotals();
  }

  /** What both sides know of tags, for whoever looks into a difference. */
  async #describe(): Promise<string> {
    const tags = await this.#world.api.app.db.sql`/* test.tags */
      select r.path, t.name, m.digest, t.start_ms, t.end_ms from tag t join manifest m on m.id = t.manifest_id
      join repository r on r.id = t.repository_id order by r.path, t.start_ms`;
    const known = [...this.#model].map(([path, { policy, lifetimes }]) => ({ path, policy, lifetimes }));
    const pattern = (_: string, value: unknown) => (value instanceof RegExp ? value.source : value);
    return JSON.stringify({ nowMs: this.#nowMs, passedMs: this.#passedMs, tags, known }, pattern, 1);
  }

  async #compare(): Promise<void> {
    const { db } = this.#world.api.app;
    const manifests = await db.sql<{ path: string; digest: string }>`/* test.manifests */
      select r.path, m.digest from manifest m join repository r on r.id = m.repository_id`;
    const links = await db.sql<{ path: string; digest: string }>`/* test.links */
      select r.path, b.digest from repository_blob l
      join repository r on r.id = l.repository_id join blob b on b.id = l.blob_id`;
    const names = (rows: readonly { path: string; digest: string }[]) =>
      rows.map(({ path, digest }) => `${path} ${digest}`);
    const all = [...this.#model, ...this.#trash.map(({ uuid, model }) => [uuid, model] as const)];
    const expected = (of: (model: ModelRepository) => Iterable<string>) =>
      all.flatMap(([path, model]) => [...of(model)].map((digest) => `${path} ${digest}`));
    const blobs = [...new Set(all.flatMap(([, { links: own }]) => [...own.keys()]))];
    try {
      compare(
        "manifests",
        names(manifests),
        expected(({ manifests: own }) => own.keys()),
      );
    } catch (error) {
      throw new Error(`${error}\n${await this.#describe()}`);
    }
    compare(
      "links",
      names(links),
      expected(({ links: own }) => own.keys()),
    );
    compare("blobs", await this.#world.known(), blobs);
    compare("files", await this.#world.stored(), blobs);
    for (const [path, model] of this.#model) {
      for (const { digest } of [this.#living(model)].flatMap((one) => one ?? [])) {
        await expectStatus(await this.#world.api.admin.pullManifest(path, digest), 200, "pull");
      }
    }
  }
}

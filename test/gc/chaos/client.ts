/**
 * One client at work in repositories of its own: images that share layers with everybody's, indexes, referrers, tags that
 * move and go, whole repositories that go and come back, uploads that nobody ends. It knows what it was promised.
 */
import type { ApiClient } from "../../api/harness.ts";
import { bytesOf, type Random } from "../../crash/random.ts";
import { digestOf } from "../../support/registry-client.ts";
import { type Answer, type ChaosHttp, PUSHES, Refused, sending } from "./http.ts";
import { type Doubt, imageOf, indexOf, type KnownManifest, RepositoryModel } from "./model.ts";
import { type Layer, type LayerPool, ownLayer } from "./pool.ts";

export interface ClientOptions {
  readonly name: string;
  readonly random: Random;
  readonly pool: LayerPool;
  readonly http: ChaosHttp;
  /** For what /v2 has no request for. */
  readonly api: () => ApiClient;
  /** Repositories of the other clients, to mount from. */
  readonly others: () => readonly RepositoryModel[];
}

const REPOSITORIES = 2;
const TAGS = 4;
/** Bytes that cannot be read now may be readable in a moment; after this they are lost. */
const READABLE_WITHIN_MS = 30_000;

export class ChaosClient {
  readonly repositories: readonly RepositoryModel[];
  /** Acknowledged changes by name. */
  readonly acknowledged = new Map<string, number>();
  pulledBlobs = 0;
  readonly #options: ClientOptions;
  #doubt: Doubt | undefined;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.repositories = Array.from(
      { length: REPOSITORIES },
      (_, n) => new RepositoryModel(`admin/${options.name}-${n}`),
    );
  }

  /** One change or pull. Throws `Lost` or `Refused`, after which the next step first looks what became of it. */
  async step(): Promise<void> {
    await this.settle();
    const { random } = this.#options;
    const repository = random.pick(this.repositories);
    if (!repository) return;
    const choice = random.next();
    if (choice < 0.42) return this.#pushImage(repository);
    if (choice < 0.48) return this.#pushIndex(repository);
    if (choice < 0.55) return this.#pushReferrer(repository);
    if (choice < 0.63) return this.#moveTag(repository);
    if (choice < 0.73) return this.#deleteTag(repository);
    if (choice < 0.81) return this.#deleteManifest(repository);
    if (choice < 0.83) return this.#deleteRepository(repository);
    if (choice < 0.87) return this.#leaveUpload(repository);
    if (choice < 0.91) return this.#pushUnused(repository);
    return this.#pull(repository, random.pick([...repository.tags.keys()]));
  }

  /** Before it tries again, in ms. */
  pauseMs(): number {
    return this.#options.random.between(20, 200);
  }

  /** Looks what became of the request that got no answer, if there is one. */
  async settle(): Promise<void> {
    await this.#doubt?.settle();
    this.#doubt = undefined;
  }

  /** Pulls everything that must be there, whole. Throws a sentence that says what is not. */
  async verify(): Promise<void> {
    await this.settle();
    for (const repository of this.repositories) {
      for (const tag of repository.tags.keys()) await this.#pullManifest(repository, tag, repository.tags.get(tag));
      for (const digest of repository.live()) await this.#pullManifest(repository, digest, digest);
      for (const digest of repository.blobs().keys()) await this.#pullBlob(repository, digest);
    }
  }

  async #pushBlobs(repository: RepositoryModel, layers: readonly Layer[]): Promise<void> {
    const { random, http } = this.#options;
    for (const layer of layers) {
      // As most clients do: what is there is not pushed again, and may be gone when the manifest comes.
      if (random.chance(0.4)) {
        const head = await http.send(`/v2/${repository.path}/blobs/${layer.digest}`, { method: "HEAD" });
        if (head.status === 200) continue;
      }
      if (random.chance(0.2) && (await this.#mount(repository, layer))) continue;
      await http.pushBlob(repository.path, layer, random.pick(PUSHES) ?? "patch");
    }
  }

  /** False when there was nothing to mount: the server has begun an upload then, which is left to the sweep. */
  async #mount(repository: RepositoryModel, { digest }: Layer): Promise<boolean> {
    const { random, http, others } = this.#options;
    const sources = others().filter((other) => other.blobs().has(digest));
    const source = random.pick(sources)?.path ?? this.repositories.find((other) => other !== repository)?.path;
    const path = `/v2/${repository.path}/blobs/uploads/?mount=${digest}&from=${source}`;
    const { status, text } = await http.send(path, { method: "POST" });
    if (status !== 201 && status !== 202) throw new Error(`mount of ${digest}: ${status} ${text}`);
    if (status === 201) this.#count("mount");
    return status === 201;
  }

  #layers(): Layer[] {
    const { random, pool } = this.#options;
    const layers = Array.from({ length: random.between(1, 3) }, () => pool.pick(random));
    return [...new Map([ownLayer(random), ...layers].map((layer) => [layer.digest, layer])).values()];
  }

  async #pushImage(repository: RepositoryModel): Promise<void> {
    const { random } = this.#options;
    const layers = this.#layers();
    await this.#pushBlobs(repository, layers);
    const image = imageOf(layers, random.between(0, 2 ** 31));
    await this.#putTagged("push image", repository, image, this.#tagName());
  }

  async #pushIndex(repository: RepositoryModel): Promise<void> {
    const { random } = this.#options;
    const images: KnownManifest[] = [];
    for (let left = random.between(1, 2); left > 0; left--) {
      const layers = this.#layers();
      await this.#pushBlobs(repository, layers);
      const image = imageOf(layers, random.between(0, 2 ** 31));
      repository.manifests.set(image.digest, image);
      // Nothing keeps it but its lease until the index is there.
      this.#expectPut(await this.#put(repository, image, image.digest), "push child");
      images.push(image);
    }
    await this.#putTagged("push index", repository, indexOf(images, random.between(0, 2 ** 31)), this.#tagName());
  }

  async #pushReferrer(repository: RepositoryModel): Promise<void> {
    const { random, http } = this.#options;
    const subject = random.pick([...repository.tags.values()]);
    if (subject === undefined) return;
    const layer = ownLayer(random);
    await this.#pushBlobs(repository, [layer]);
    const referrer = imageOf([layer], random.between(0, 2 ** 31), repository.get(subject));
    repository.manifests.set(referrer.digest, referrer);
    await this.#change("push referrer", () => this.#put(repository, referrer, referrer.digest), {
      expected: [201],
      refusals: [404, 400],
      apply: () => repository.referrers.set(referrer.digest, subject),
      isDone: async () => {
        const { status } = await http.send(`/v2/${repository.path}/manifests/${referrer.digest}`, { method: "HEAD" });
        return status === 200;
      },
    });
  }

  async #moveTag(repository: RepositoryModel): Promise<void> {
    const digest = this.#options.random.pick([...repository.tags.values()]);
    if (digest === undefined) return;
    // Its blobs are named by a manifest that lives: nothing may be missing.
    await this.#putTagged("move tag", repository, repository.get(digest), this.#tagName(), []);
  }

  async #putTagged(
    what: string,
    repository: RepositoryModel,
    manifest: KnownManifest,
    tag: string,
    refusals: readonly number[] = [404, 400],
  ): Promise<void> {
    repository.manifests.set(manifest.digest, manifest);
    const before = repository.tags.get(tag);
    await this.#change(what, () => this.#put(repository, manifest, tag), {
      expected: [201],
      refusals,
      apply: () => repository.tags.set(tag, manifest.digest),
      isDone: async () => {
        const seen = await this.#tagged(repository, tag);
        if (seen !== manifest.digest && seen !== before)
          throw new Error(`"${tag}" is ${seen}, neither ${before} nor new`);
        return seen === manifest.digest;
      },
    });
  }

  async #deleteTag(repository: RepositoryModel): Promise<void> {
    const tag = this.#options.random.pick([...repository.tags.keys()]);
    if (tag === undefined) return;
    await this.#change("delete tag", () => this.#delete(repository, tag), {
      expected: [202],
      apply: () => repository.tags.delete(tag),
      isDone: async () => (await this.#tagged(repository, tag)) === undefined,
    });
  }

  async #deleteManifest(repository: RepositoryModel): Promise<void> {
    const digest = this.#options.random.pick([...repository.tags.values()]);
    if (digest === undefined) return;
    const tags = [...repository.tags].filter(([, of]) => of === digest).map(([tag]) => tag);
    await this.#change("delete manifest", () => this.#delete(repository, digest), {
      expected: [202],
      apply: () => {
        for (const tag of tags) repository.tags.delete(tag);
      },
      isDone: () => this.#areGone(repository, tags),
    });
  }

  async #deleteRepository(repository: RepositoryModel): Promise<void> {
    const tags = [...repository.tags.keys()];
    if (tags.length === 0) return;
    const call = async (): Promise<Answer> => {
      const { status, text } = await sending("delete repository", () =>
        this.#options.api().delete(`/repository/${repository.path}`),
      );
      return { status, text, headers: new Headers(), body: new Uint8Array() };
    };
    await this.#change("delete repository", call, {
      expected: [204],
      apply: () => repository.tags.clear(),
      isDone: () => this.#areGone(repository, tags),
    });
  }

  /** Begins an upload that nobody ends. */
  async #leaveUpload(repository: RepositoryModel): Promise<void> {
    const { http, random } = this.#options;
    const started = await http.send(`/v2/${repository.path}/blobs/uploads/`, { method: "POST" });
    const location = started.headers.get("location");
    if (started.status !== 202 || location === null) throw new Error(`upload: ${started.status} ${started.text}`);
    const body = bytesOf(ownLayer(random).content);
    if (random.chance(0.7)) await http.send(location, { method: "PATCH", body });
    if (random.chance(0.3)) await http.send(location, { method: "DELETE" });
    this.#count("leave upload");
  }

  /** A blob that no manifest will name. */
  async #pushUnused(repository: RepositoryModel): Promise<void> {
    const { random, pool, http } = this.#options;
    const layer = random.chance(0.5) ? ownLayer(random) : pool.pick(random);
    await http.pushBlob(repository.path, layer, random.pick(PUSHES) ?? "patch");
    this.#count("push unused");
  }

  async #pull(repository: RepositoryModel, tag: string | undefined): Promise<void> {
    const digest = tag === undefined ? undefined : repository.tags.get(tag);
    if (tag === undefined || digest === undefined) return;
    await this.#pullManifest(repository, tag, digest);
    for (const child of [digest, ...repository.get(digest).children]) {
      await this.#pullManifest(repository, child, child);
      for (const blob of repository.get(child).blobs) await this.#pullBlob(repository, blob.digest);
    }
    this.#count("pull");
  }

  async #pullManifest(repository: RepositoryModel, reference: string, digest: string | undefined): Promise<void> {
    if (digest === undefined) return;
    const { status, body, text } = await this.#get(`/v2/${repository.path}/manifests/${reference}`);
    if (status === 200 && digestOf(body) === digest) return;
    throw new Error(`"${reference}" of ${repository.path} was acknowledged as ${digest}, and is ${status} ${text}`);
  }

  async #pullBlob(repository: RepositoryModel, digest: string): Promise<void> {
    const { status, body, text } = await this.#get(`/v2/${repository.path}/blobs/${digest}`);
    this.pulledBlobs++;
    if (status === 200 && digestOf(body) === digest) return;
    const what = status === 200 ? `${body.length} bytes of ${digestOf(body)}` : `${status} ${text}`;
    throw new Error(`blob ${digest} of an image in ${repository.path} is ${what}`);
  }

  /** A GET that insists where it is told "not now". */
  async #get(path: string): Promise<Answer> {
    const untilMs = performance.now() + READABLE_WITHIN_MS;
    for (;;) {
      try {
        return await this.#options.http.send(path);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        if (performance.now() > untilMs) throw new Error(`for ${READABLE_WITHIN_MS} ms: ${error.message}`);
        await Bun.sleep(200);
      }
    }
  }

  #put(repository: RepositoryModel, { content, mediaType }: KnownManifest, reference: string): Promise<Answer> {
    const path = `/v2/${repository.path}/manifests/${reference}`;
    return this.#options.http.send(path, { method: "PUT", body: content, headers: { "content-type": mediaType } });
  }

  #delete(repository: RepositoryModel, reference: string): Promise<Answer> {
    return this.#options.http.send(`/v2/${repository.path}/manifests/${reference}`, { method: "DELETE" });
  }

  async #tagged(repository: RepositoryModel, tag: string): Promise<string | undefined> {
    const { status, headers, text } = await this.#get(`/v2/${repository.path}/manifests/${tag}`);
    if (status === 404) return undefined;
    const digest = headers.get("docker-content-digest");
    if (status !== 200 || digest === null) throw new Error(`"${tag}" of ${repository.path}: ${status} ${text}`);
    return digest;
  }

  /** True when none of the tags is there, false when all are. */
  async #areGone(repository: RepositoryModel, tags: readonly string[]): Promise<boolean> {
    const left: string[] = [];
    for (const tag of tags) if ((await this.#tagged(repository, tag)) !== undefined) left.push(tag);
    if (left.length > 0 && left.length < tags.length) throw new Error(`of ${tags} only ${left} are left`);
    return left.length === 0;
  }

  /** Sends a request that changes the model when it is done, now or as is found out later. */
  async #change(
    what: string,
    send: () => Promise<Answer>,
    change: {
      readonly expected: readonly number[];
      readonly refusals?: readonly number[];
      apply(): void;
      isDone(): Promise<boolean>;
    },
  ): Promise<void> {
    const repositories = this.repositories;
    const done = (): void => {
      change.apply();
      for (const repository of repositories) repository.prune();
      this.#count(what);
    };
    this.#doubt = {
      what,
      async settle() {
        if (await change.isDone()) done();
      },
    };
    const { status, text } = await send();
    this.#doubt = undefined;
    if (change.expected.includes(status)) return done();
    if (change.refusals?.includes(status)) throw new Refused(`${what}: ${status} ${text}`);
    throw new Error(`${what}: ${status} ${text}`);
  }

  #expectPut({ status, text }: Answer, what: string): void {
    if (status === 404 || status === 400) throw new Refused(`${what}: ${status} ${text}`);
    if (status !== 201) throw new Error(`${what}: ${status} ${text}`);
    this.#count(what);
  }

  #tagName(): string {
    return `v${this.#options.random.between(1, TAGS)}`;
  }

  #count(what: string): void {
    this.acknowledged.set(what, (this.acknowledged.get(what) ?? 0) + 1);
  }
}

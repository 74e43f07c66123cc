/** Random pushes for tests of retention: what a registry holds whose repositories share layers. */

import { expect } from "bun:test";
import type { Random } from "../storage/random.ts";
import { describeContent, digestOf, mediaTypes, toBytes } from "../support/registry-client.ts";
import type { RetentionWorld } from "./retention-world.ts";
import { dayMs } from "./world.ts";

/** Images, indexes and referrers from a few layers, pulls, deletions, immutable tags, and days that pass. */
export class RandomPushes {
  readonly #world: RetentionWorld;
  readonly #random: Random;
  readonly #paths: readonly string[];
  readonly #layers: Uint8Array[];
  readonly #digests = new Map<string, string[]>();
  readonly #immutable = new Set<string>();
  #pulls = 0;

  constructor(world: RetentionWorld, random: Random, paths: readonly string[]) {
    this.#world = world;
    this.#random = random;
    this.#paths = paths;
    this.#layers = Array.from({ length: 50 }, () => random.bytes(random.integer(100, 9_000)));
  }

  async run(steps: number): Promise<void> {
    for (let step = 0; step < steps; step++) {
      const path = this.#pick(this.#paths);
      const tag = `t${this.#random.integer(0, 9)}`;
      const known = this.#digests.get(path) ?? [];
      const kind = this.#random.integer(0, 19);
      if (kind < 9 || known.length === 0) await this.#push(path, tag, await this.#image(path));
      else if (kind < 11)
        await this.#push(path, tag, indexOf([this.#pick(known), this.#pick(known)]), mediaTypes.index);
      else if (kind < 13) await this.#push(path, undefined, await this.#image(path, this.#pick(known)));
      else if (kind < 14) await this.#protect(path, tag);
      else if (kind < 15) await this.#delete(path, tag);
      else if (kind < 17) await this.#pull(path, this.#random.integer(0, 1) === 0 ? tag : this.#pick(known));
      else await this.#world.gc.pass(this.#random.integer(0, 5 * dayMs));
    }
    // Nothing but the dry run and what follows on it shall change what is due.
    while ((await this.#written()) < this.#pulls) await Bun.sleep(50);
  }

  async #written(): Promise<number> {
    let sum = 0;
    for (const path of this.#paths) sum += await this.#world.pullsOf(path);
    return sum;
  }

  #pick<T>(all: readonly T[]): T {
    return all[this.#random.integer(0, all.length - 1)] as T;
  }

  async #image(path: string, subject?: string): Promise<object> {
    const config = toBytes({ architecture: "amd64", os: "linux", n: this.#random.integer(0, 9) });
    const layers = Array.from({ length: this.#random.integer(0, 3) }, () => this.#pick(this.#layers));
    for (const content of [config, ...layers])
      expect((await this.#world.client.pushBlob(path, content)).status).toBe(201);
    return {
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config: describeContent(config, mediaTypes.config),
      layers: layers.map((content) => describeContent(content, mediaTypes.layer)),
      ...(subject ? { subject: { mediaType: mediaTypes.manifest, size: 100, digest: subject } } : {}),
    };
  }

  /** A referrer has no tag but one time in four. */
  async #push(path: string, tag: string | undefined, manifest: object, mediaType?: string): Promise<void> {
    const bytes = toBytes(manifest);
    const reference = tag ?? (this.#random.integer(0, 3) === 0 ? "t9" : digestOf(bytes));
    if (this.#immutable.has(`${path}:${reference}`)) return;
    expect((await this.#world.client.pushManifest(path, reference, bytes, mediaType)).status).toBe(201);
    this.#digests.set(path, [...(this.#digests.get(path) ?? []), digestOf(bytes)]);
  }

  async #protect(path: string, tag: string): Promise<void> {
    const answer = await this.#world.su.put(`/repository/${path}/tag/${tag}`, { immutable: true });
    if (answer.status === 201) this.#immutable.add(`${path}:${tag}`);
  }

  async #delete(path: string, tag: string): Promise<void> {
    await this.#world.deleteTag(path, tag);
  }

  async #pull(path: string, reference: string): Promise<void> {
    if ((await this.#world.client.pullManifest(path, reference)).status === 200) this.#pulls++;
  }
}

function indexOf(digests: readonly string[]): object {
  const manifests = digests.map((digest) => ({ mediaType: mediaTypes.manifest, size: 100, digest }));
  return { schemaVersion: 2, mediaType: mediaTypes.index, manifests };
}

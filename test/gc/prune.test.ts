/** Auto-prune policies: which tags they end, and what they leave alone. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { noteDefaultPolicy } from "../../src/domain/autoprune/due.ts";
import { pruneNext } from "../../src/domain/autoprune/prune.ts";
import type { ApiClient } from "../api/harness.ts";
import type { RegistryClient } from "../support/registry-client.ts";
import { dayMs, type GcWorld, startGcWorld } from "./world.ts";

setDefaultTimeout(60_000);

let world: GcWorld;
let client: RegistryClient;
let su: ApiClient;
beforeAll(async () => {
  world = await startGcWorld({ FEATURE_AUTO_PRUNE: true });
  client = world.api.admin;
  su = await world.api.as("admin");
}, 120_000);
afterAll(() => world?.stop());

let organizations = 0;
/** An organization of its own with one repository, and what a test does with it. */
async function scene() {
  const name = `prune${++organizations}`;
  expect((await su.post("/organization/", { name, email: `${name}@example.com` })).status).toBe(201);
  const path = `${name}/app`;
  return {
    name,
    path,
    /** Pushes tags one after the other, a day apart. */
    async push(...tags: string[]): Promise<void> {
      for (const tag of tags) {
        await client.pushImage(path, tag);
        await world.pass(dayMs);
      }
    },
    async policy(rule: Record<string, unknown>, at = `/organization/${name}`): Promise<void> {
      const answer = await su.post(`${at}/autoprunepolicy/`, rule);
      expect([answer.status, answer.text]).toEqual([201, answer.text]);
    },
    async tags(): Promise<string[]> {
      const { body } = await su.get(`/repository/${path}/tag/?onlyActiveTags=true&limit=100`);
      return body.tags.map((tag: { name: string }) => tag.name).sort();
    },
  };
}

async function prune(config: Record<string, unknown> = {}): Promise<void> {
  const { db } = world.api.app;
  await db.sql`/* test.gathered */ update prune_repository set due_ms = due_ms - 20000 where due_ms > 20000`;
  const app = { ...world.api.app, config: { ...world.api.app.config, ...config } };
  await noteDefaultPolicy(app.db, app.config);
  while (await pruneNext(app));
}

test("keeps the newest tags of each repository, and the others can be restored", async () => {
  const { path, name, push, policy, tags } = await scene();
  await push("v1", "v2", "v3", "v4");
  await policy({ method: "number_of_tags", value: 2 });
  await prune();
  expect(await tags()).toEqual(["v3", "v4"]);
  await push("v5");
  await prune();
  expect(await tags()).toEqual(["v4", "v5"]);
  expect((await client.pullManifest(path, "v3")).status).toBe(404);
  const { body } = await su.get(`/repository/${path}/tag/?specificTag=v3`);
  const digest = body.tags[0].manifest_digest;
  expect((await su.post(`/repository/${path}/tag/v3/restore`, { manifest_digest: digest })).status).toBe(200);
  const logs = await su.get(`/organization/${name}/logs`);
  const pruned = logs.body.logs.filter((entry: { kind: string }) => entry.kind === "autoprune_tag_delete");
  expect(pruned.map((entry: { metadata: { tag: string } }) => entry.metadata.tag).sort()).toEqual(["v1", "v2", "v3"]);
});

test("goes by age, by pattern, and spares what does not match", async () => {
  const { push, policy, tags, path } = await scene();
  await push("release-1", "nightly-1", "nightly-2", "nightly-3");
  await policy({ method: "creation_date", value: "36h", tagPattern: "^nightly-" }, `/repository/${path}`);
  await prune();
  expect(await tags()).toEqual(["nightly-3", "release-1"]);
  await policy(
    { method: "number_of_tags", value: 1, tagPattern: "^release-", tagPatternMatches: false },
    `/repository/${path}`,
  );
  await push("release-2", "nightly-4");
  await prune();
  expect(await tags()).toEqual(["nightly-4", "release-1", "release-2"]);
});

test("leaves immutable tags and read-only repositories alone", async () => {
  const { push, policy, tags, path } = await scene();
  await push("v1", "v2", "v3");
  expect((await su.put(`/repository/${path}/tag/v1`, { immutable: true })).status).toBe(201);
  await policy({ method: "number_of_tags", value: 1 });
  await world.api.state(path, "READ_ONLY");
  await prune();
  expect(await tags()).toEqual(["v1", "v2", "v3"]);
  await world.api.state(path, "NORMAL");
  await policy({ method: "number_of_tags", value: 1, tagPattern: "v" });
  await prune();
  expect(await tags()).toEqual(["v1", "v3"]);
});

test("the config's policy holds where a namespace has none, from the start that brings it", async () => {
  const [with_, without] = [await scene(), await scene()];
  for (const { push } of [with_, without]) await push("v1", "v2", "v3");
  await with_.policy({ method: "number_of_tags", value: 2 });
  const byDefault = { DEFAULT_NAMESPACE_AUTOPRUNE_POLICY: { method: "number_of_tags", value: 1 } };
  await prune(byDefault);
  expect([await with_.tags(), await without.tags()]).toEqual([["v2", "v3"], ["v3"]]);
  await without.push("v4");
  await prune(byDefault);
  expect(await without.tags()).toEqual(["v4"]);
});

test("the config's policy may be for some tags only", async () => {
  const { push, tags } = await scene();
  await push("ci-1", "v1", "ci-2", "v2");
  const policy = { method: "number_of_tags", value: 1, tagPattern: "^ci-" };
  await prune({ DEFAULT_NAMESPACE_AUTOPRUNE_POLICY: policy });
  expect(await tags()).toEqual(["ci-2", "v1", "v2"]);
  await push("ci-3", "v3");
  await prune({ DEFAULT_NAMESPACE_AUTOPRUNE_POLICY: { ...policy, tagPatternMatches: false } });
  expect(await tags()).toEqual(["ci-2", "ci-3", "v3"]);
});

test("asks nothing of repositories that no policy is for", async () => {
  const { push } = await scene();
  await world.api.app.db.sql`/* test.none */ delete from setting where key = 'autoprune_default'`;
  await world.api.app.db.sql`/* test.none */ delete from prune_repository`;
  await push("v1");
  expect(await world.count("prune_repository")).toBe(0);
});

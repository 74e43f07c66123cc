/** How often images were pulled: counted beside the answers, kept over a stop, shown by the API. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { toNumber } from "../../src/db/decode.ts";
import { eventually } from "../registry/harness.ts";
import { absentDigest, image, index, publish } from "../support/content.ts";
import type { RegistryClient } from "../support/registry-client.ts";
import { type Api, type ApiClient, startApi } from "./harness.ts";

let api: Api;
let alice: RegistryClient;
let owner: ApiClient;

beforeAll(async () => {
  api = await startApi();
  alice = await api.user("alice");
  await api.user("stranger");
  owner = await api.as("alice");
}, 60_000);
afterAll(() => api.stop());

const [one, two] = [image("pulls-1"), image("pulls-2")];
/** Counts are written some seconds after the pull. */
const WRITTEN_MS = 10_000;

const tagPulls = async (path: string, tag: string) =>
  (await owner.get(`/repository/${path}/tag/${tag}/pull_statistics`)).body;
const manifestPulls = async (path: string, digest: string) =>
  (await owner.get(`/repository/${path}/manifest/${digest}/pull_statistics`)).body;

async function pull(path: string, reference: string, times: number): Promise<void> {
  for (let count = 0; count < times; count++) {
    const response = await alice.pullManifest(path, reference);
    expect(response.status).toBe(200);
    await response.arrayBuffer();
  }
}

async function activityOf(path: string): Promise<number> {
  const { id } = await api.repository(path);
  const rows = await api.app.db.sql<{ day: number; action_count: unknown }>`/* test.activity */
    select day, action_count from repository_action_count where repository_id = ${id}`;
  for (const { day } of rows) expect(Math.abs(day - Date.now() / 86_400_000)).toBeLessThan(2);
  return rows.reduce((sum, row) => sum + toNumber(row.action_count), 0);
}

describe("pull statistics", () => {
  test("are zero and never for what nobody pulled", async () => {
    await publish(alice, "alice/fresh", one, "v1");
    expect(await tagPulls("alice/fresh", "v1")).toEqual({
      tag_name: "v1",
      tag_pull_count: 0,
      last_tag_pull_date: null,
      current_manifest_digest: one.digest,
      manifest_pull_count: 0,
      last_manifest_pull_date: null,
    });
    expect(await manifestPulls("alice/fresh", one.digest)).toEqual({
      manifest_digest: one.digest,
      manifest_pull_count: 0,
      last_manifest_pull_date: null,
    });
  });

  test("count pulls by tag for tag and manifest, by digest for the manifest; heads and 304 are none", async () => {
    const path = "alice/counted";
    await publish(alice, path, one, "v1");
    await publish(alice, path, one, "v2");
    const startedS = Math.floor(Date.now() / 1000);
    await pull(path, "v1", 3);
    await pull(path, "v2", 2);
    await pull(path, one.digest, 4);
    expect((await alice.pullManifest(path, "v1", { method: "HEAD" })).status).toBe(200);
    const headers = { "if-none-match": `"${one.digest}"` };
    expect((await alice.pullManifest(path, "v1", { headers })).status).toBe(304);
    expect((await alice.pullManifest(path, "nosuch")).status).toBe(404);
    await eventually(async () => (await manifestPulls(path, one.digest)).manifest_pull_count >= 9, WRITTEN_MS);
    const pulls = await tagPulls(path, "v1");
    expect(pulls).toMatchObject({ tag_pull_count: 3, manifest_pull_count: 9, current_manifest_digest: one.digest });
    for (const date of [pulls.last_tag_pull_date, pulls.last_manifest_pull_date]) {
      expect(date).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
      expect(Date.parse(date) / 1000).toBeGreaterThanOrEqual(startedS);
      expect(Date.parse(date)).toBeLessThanOrEqual(Date.now());
    }
    expect((await tagPulls(path, "v2")).tag_pull_count).toBe(2);
    // Two pushes and nine pulls.
    expect(await activityOf(path)).toBe(11);
  }, 20_000);

  test("of a tag stay with its name when it moves; those of a manifest with the manifest", async () => {
    const path = "alice/moved";
    await publish(alice, path, one, "v1");
    await pull(path, "v1", 2);
    await publish(alice, path, two, "v1");
    await pull(path, "v1", 1);
    await eventually(async () => (await tagPulls(path, "v1")).tag_pull_count >= 3, WRITTEN_MS);
    expect(await tagPulls(path, "v1")).toMatchObject({
      tag_pull_count: 3,
      manifest_pull_count: 1,
      current_manifest_digest: two.digest,
    });
    expect(await manifestPulls(path, one.digest)).toMatchObject({ manifest_pull_count: 2 });
    const list = index([one.descriptor]);
    await publish(alice, path, list, "list");
    await pull(path, "list", 1);
    await eventually(async () => (await tagPulls(path, "list")).tag_pull_count === 1, WRITTEN_MS);
  }, 30_000);

  test("are for those who may read, of what is in this repository", async () => {
    await publish(alice, "alice/rights", one, "v1");
    await publish(alice, "alice/rights-2", two, "v2");
    const path = "/repository/alice/rights";
    const stranger = await api.as("stranger");
    expect((await stranger.get(`${path}/tag/v1/pull_statistics`)).status).toBe(403);
    expect((await (await api.nobody()).get(`${path}/manifest/${one.digest}/pull_statistics`)).status).toBe(401);
    const missing = ["tag/nosuch", "tag/~bad", `manifest/${absentDigest}`, `manifest/${two.digest}`];
    for (const what of missing) expect((await owner.get(`${path}/${what}/pull_statistics`)).status).toBe(404);
    expect((await owner.get(`${path}/manifest/latest/pull_statistics`)).status).toBe(400);
  });

  test("outlive a stop right after the pull", async () => {
    const other = await startApi();
    const client = await other.user("alice");
    await publish(client, "alice/stopped", one, "v1");
    for (let count = 0; count < 5; count++) expect((await client.pullManifest("alice/stopped", "v1")).status).toBe(200);
    const { id } = await other.repository("alice/stopped");
    expect(await other.berth.shutDown()).toBe(0);
    const [row] = await other.app.db.sql<{ pull_count: unknown }>`/* test.pulls */
        select pull_count from tag_pull where repository_id = ${id}`;
    expect(toNumber(row?.pull_count)).toBe(5);
    await other.stop();
  }, 30_000);
});
